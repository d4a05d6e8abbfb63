"""Several prepared folders of one task as one data set, as PraNet trains on Kvasir-SEG and CVC-ClinicDB together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.datasets.prepared import Prepared
from bench.datasets.splitting import digest
from bench.errors import InputError
from bench.types import Case, TaskSpec


class Joined:
    """The cases of several data sets, each under the same split manifest and target.

    `roots`: prepared folder by name of the data set. Cases and groups are called NAME-ID. `test` names the one whose
    test part is tested, since a mean over two data sets means little; all without. Raises InputError for folders that
    were prepared for different ranges or dimensions, and as `Prepared`.
    """

    def __init__(
        self,
        roots: Mapping[str, str | Path],
        image_size: int | Sequence[int],
        split: str,
        labels: str,
        test: str | None = None,
    ) -> None:
        if test is not None and test not in roots:
            raise InputError(f"dataset.test={test}: unknown; use one of {', '.join(roots)}")
        size = image_size if isinstance(image_size, int) else list(image_size)
        self._parts = {name: Prepared(root, name, size, split, labels) for name, root in roots.items()}
        self._test = test
        self._first, *others = self._parts.values()
        for part in others:
            if part.spec != self._first.spec:
                raise InputError(f"{part.root}: prepared for another task than {self._first.root}; prepare them alike")

    @property
    def spec(self) -> TaskSpec:
        """The task, the same for every part."""
        return self._first.spec

    def case_ids(self, split: str) -> list[str]:
        """Sorted ids of a split."""
        chosen = [name for name in self._parts if split != "test" or self._test in (None, name)]
        return sorted(f"{name}-{case}" for name in chosen for case in self._parts[name].case_ids(split))

    def case(self, case_id: str) -> Case:
        """One case of its part; raises InputError for an unknown id."""
        name, _, own = case_id.partition("-")
        if name not in self._parts:
            raise InputError(f"case {case_id!r}: of no part of this data set")
        case = self._parts[name].case(own)
        return replace(case, id=case_id, group=f"{name}-{case.group}")

    def fingerprint(self) -> dict[str, str]:
        """Hashes of all parts' files, and of their splits with what is tested."""
        parts = {name: part.fingerprint() for name, part in self._parts.items()}
        split = {"parts": {name: hashes["split"] for name, hashes in parts.items()}, "test": self._test}
        return {"data": digest({name: hashes["data"] for name, hashes in parts.items()}), "split": digest(split)}

    def facts(self) -> dict[str, str]:
        """What each part's are, and which one is tested."""
        facts = {f"{name} {key}": text for name, part in self._parts.items() for key, text in part.facts().items()}
        return facts | {"tested": self._test or "all"}

    def check(self) -> None:
        """Compare every file of every part with its hash."""
        for part in self._parts.values():
            part.check()

    def notes(self) -> list[str]:
        """Those of the parts that are tested."""
        return [line for name, part in self._parts.items() if self._test in (None, name) for line in part.notes()]
