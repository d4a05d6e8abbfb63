"""The masks of one folder: read one at a time, under one rule that all of the files made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench import progress
from bench.datasets.formats import Picture, decode
from bench.datasets.grids import Onto, check_size
from bench.datasets.masks.declared import COLOUR, Declared
from bench.datasets.masks.levels import FAINTEST, Levels, levels_of, sum_levels, wants_areas
from bench.datasets.masks.plane import is_halved, plane_of, read_plane
from bench.datasets.masks.rule import LabelMasks, MaskRule, decide, plain_rule, simple
from bench.errors import InputError


class MaskFiles:
    """Masks that are read alike. A file that says the same in every folder is read at once, in one pass.

    The first file that does not makes all of them be looked at, and what they hold together decides; `rule` does so
    right away, and so does the first file where nobody named the labels. After the last file the rule is that of the
    whole folder in any case. `check` may refuse a decision. With a `rule` nothing is left to decide.
    """

    def __init__(
        self,
        where: Path,
        files: Sequence[Path],
        declared: Declared,
        check: Callable[[MaskRule, Levels], None] | None = None,
        rule: MaskRule | None = None,
    ) -> None:
        self._where, self._files, self.declared, self._check = where, list(files), declared, check
        self._seen: dict[Path, Levels] = {}
        self._rule = rule

    @property
    def rule(self) -> MaskRule:
        """The decision; looks at every file that was not read yet. Raises InputError where it stays unclear."""
        if self._rule is None:
            for done, path in enumerate(self._files, 1):
                if path not in self._seen:
                    self._look(path, decode(path, indexed=True))
                progress.report(f"reading masks of {self._where.name}", done, len(self._files))
            return self._decide()
        return self._rule

    def read(self, path: Path, picture: Picture) -> tuple[LabelMasks, np.ndarray | None]:
        """Masks (L, *S) of one file that is decoded, and its ignored elements (*S), None where there are none."""
        plane = self._look(path, picture)
        present = self._seen[path].by_file[self._name(path)]
        early = self._rule is None and len(self._seen) < len(self._files)
        alone = early and self.declared.labels is not None and simple(present, self.declared)
        rule = plain_rule(self.declared) if alone else self.rule
        if picture.lossy:
            self._check_lossy(path, rule, max(present, default=0))
        return LabelMasks(rule, plane), rule.ignored(plane)

    def read_onto(self, path: Path, onto: Onto) -> tuple[LabelMasks, np.ndarray | None]:
        """The same of a file on the grid of the one it belongs to; InputError where it is on another."""
        background = self.declared.background
        onto = onto._replace(fill=background if 0 <= background < COLOUR else 0)
        found = self.read(path, decode(path, indexed=True, onto=onto))
        check_size(found[0].shape[1:], path, onto)
        return found

    def seen(self, path: Path) -> Levels:
        """What a file holds that was read."""
        return self._seen[path]

    def note(self, path: Path, levels: Levels) -> None:
        """Take what another process has read in a file."""
        self._seen[path] = levels

    def facts(self) -> dict[str, Any]:
        """The rule, and how many elements it ignores of how many, for the record."""
        facts = {**self.rule.facts(), "files": len(self._files)}
        if (value := self.rule.ignore) is None:
            return facts
        counts = [levels.counts for levels in self._seen.values()]
        return {**facts, "ignored_elements": sum(c[value] for c in counts), "elements": sum(c.total() for c in counts)}

    def strangers(self) -> list[int]:
        """Values that are no label's, nor the background's or the ignored one; none where masks are binary."""
        known = {self.rule.background, self.rule.ignore, *(v for values in self.rule.values or () for v in values)}
        held = {v for levels in self._seen.values() for v in levels.counts}
        return sorted(held - known) if self.rule.values is not None else []

    def emptied(self) -> bool:
        """Whether no mask holds anything once the ignored elements, of which there are some, have left it."""
        rule, held = self.rule, {v for levels in self._seen.values() for v in levels.counts}
        named = held if rule.values is None else held & {v for values in rule.values for v in values}
        return rule.ignore in held and named <= {rule.ignore, rule.background}

    def _check_lossy(self, path: Path, rule: MaskRule, highest: int) -> None:
        if 0 < highest < FAINTEST:
            raise InputError(f"{path}: was compressed with loss and its largest value is {highest}; save 0 and 255")
        if rule.values is not None:
            raise InputError(f"{path}: was compressed with loss, so it cannot hold label values; save masks as PNG")

    def _look(self, path: Path, picture: Picture) -> np.ndarray:
        plane = plane_of(picture, path, self.declared)
        if path not in self._seen:
            levels = levels_of(plane, self._name(path))
            levels.halved = int(is_halved(picture, self.declared))
            self.note(path, levels)
        return plane

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._where))  # draw-000/a.png is another file than draw-001/a.png

    def _decide(self) -> MaskRule:
        levels = sum_levels(self._seen.values())
        if wants_areas(levels):
            parts = (levels_of(read_plane(p, self.declared), self._name(p), areas=True) for p in self._files)
            levels = replace(sum_levels(parts), halved=levels.halved)
        rule = decide(levels, self.declared, str(self._where))
        if self._check is not None:
            self._check(rule, levels)
        self._rule = rule
        progress.note(f"{self._where}: {text_of(self.facts())}")
        return rule


def text_of(facts: Mapping[str, Any]) -> str:
    """How masks were read, in one line, from `MaskFiles.facts`."""
    if "ignored_elements" not in facts:
        return str(facts["text"])
    return f"{facts['text']} ({facts['ignored_elements']} of {facts['elements']} elements)"
