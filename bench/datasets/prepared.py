"""A folder that `sdseg prepare` made, as a dataset."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from bench import progress
from bench.datasets.folder import Folder
from bench.datasets.masks import MaskFiles, MaskRule
from bench.datasets.masks.declared import declared
from bench.datasets.preparing import INFO
from bench.datasets.splitting import digest, split_digest
from bench.errors import InputError
from bench.files import read_json, sha256_of
from bench.types import TaskSpec

_KEYS = ("name", "how", "channels", "dims", "intensity", "targets", "splits", "cases", "options", "version")


class Prepared(Folder):
    """Cases of one of the paper's data sets, under a split manifest and for a target.

    `root` is what `sdseg prepare` wrote. `split` names one of its manifests, or `manifest` is a file of one's own
    (CSV: case, split[, group]). `labels` names what is scored, one of the data set's targets. Raises InputError for a
    folder of another data set, an unknown split or target; `check` compares every file with its hash.
    """

    def __init__(
        self,
        root: str | Path,
        benchmark: str,
        image_size: int | list[int],
        split: str,
        labels: str,
        manifest: str | None = None,
    ) -> None:
        root = Path(root)
        how = f"run: sdseg prepare {benchmark} --source RAW --out {root}, or set dataset.root"
        if not (root / INFO).is_file():
            raise InputError(f"{root}: no prepared data set; {how}")
        self._info = read_json(root / INFO, dict, how)
        missing = [key for key in _KEYS if key not in self._info]
        if missing:
            raise InputError(
                f"{root / INFO}: has no {missing[0]}, so another version wrote it; delete {root} and {how}"
            )
        if self._info["name"] != benchmark:
            raise InputError(f"{root}: holds {self._info['name']}, not {benchmark}; set dataset.root to another")
        self._split_name = split if manifest is None else Path(manifest).name
        self._target = labels
        chosen = _choose(self._info["targets"], labels, f"{benchmark}: dataset.labels")
        if manifest is None:
            _choose(self._info["splits"], split, f"{benchmark}: dataset.split")
        self._whole_groups = manifest is not None  # those of the papers may cut through; `notes` says so
        super().__init__(
            root,
            image_size,
            labels={name: list(ids) for name, ids in chosen.items()},
            manifest=manifest or root / "splits" / f"{split}.csv",
            channels=self._info["channels"],
            intensity=self._info["intensity"],
            mask="labels",
        )
        rule = MaskRule(tuple(chosen), tuple(tuple(ids) for ids in chosen.values()), f"label ids, target {labels}")
        stated = declared("labels", {name: list(ids) for name, ids in chosen.items()}, option="dataset.{}")
        self._reading = MaskFiles(root / "masks", list(self._masks.values()), stated, rule=rule)

    @cached_property
    def _images_spec(self) -> TaskSpec:
        # Preparing has looked at every file; values beyond the range of `paper` are the release's own.
        orientation = "RAS" if self._info["dims"] == 3 else ""
        task = TaskSpec(self._channels, self._names, self._plane, self._info["dims"], self._range([]))
        return replace(task, orientation=orientation, clip=self._info["preprocessing"] == "native")

    def fingerprint(self) -> dict[str, str]:
        """Hashes of the prepared files with the target, and of the split."""
        files = {name: [row["image"]["sha256"], row["mask"]["sha256"]] for name, row in self._info["cases"].items()}
        data = digest({"files": files, "labels": self._info["targets"][self._target]})
        return {"data": data, "split": split_digest(self._split_of, self._group_of)}

    def facts(self) -> dict[str, str]:
        """What was done to the cases, what is scored and who is in which split, for the record."""
        options = "".join(f" {name}={value}" for name, value in self._info["options"].items())
        said = f"{self._info['preprocessing']}{options} (version {self._info['version']}): {self._info['how']}"
        return {"preprocessing": said, "target": self._target, "manifest": self._split_name}

    def notes(self) -> list[str]:
        """How many test cases have others of their group in training or validation."""
        seen = {self._group_of[case] for case, split in self._split_of.items() if split != "test"}
        test = self.case_ids("test")
        known = sum(self._group_of[case] in seen for case in test)
        if not known:
            return []
        said = f"{known} of {len(test)} test cases have others of their group in training or validation"
        return [f"split {self._split_name}: {said}"]

    def check(self) -> None:
        """Compare the split and every file with the hashes they were prepared with; InputError names what differs."""
        ours = not self._whole_groups
        if ours and self._info["splits"][self._split_name]["sha256"] != self.fingerprint()["split"]:
            raise InputError(
                f"{self.root / 'splits' / self._split_name}.csv: not as it was prepared; run sdseg prepare "
                f"{self._info['name']} again, or give a list of your own as dataset.manifest"
            )
        rows: dict[str, Any] = self._info["cases"]
        for done, row in enumerate(rows.values(), 1):
            for file in (row["image"], row["mask"]):
                path = self.root / file["path"]
                if not path.is_file() or sha256_of(path) != file["sha256"]:
                    raise InputError(f"{path}: not as it was prepared; run sdseg prepare {self._info['name']} again")
            progress.report("checking files", done, len(rows))


def _choose(known: dict[str, Any], name: str, what: str) -> Any:
    if name not in known:
        raise InputError(f"{what}={name}: unknown; use one of {', '.join(known)}")
    return known[name]
