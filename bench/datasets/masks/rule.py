"""The decision how the masks of one folder are read, and the reading."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.datasets.masks.declared import COLOUR, Declared, show, show_all
from bench.datasets.masks.doubts import (
    FOREGROUND,
    check_background,
    check_one_grey,
    check_soft_files,
    check_white,
    half,
    holder,
    naming,
    noise_error,
)
from bench.datasets.masks.levels import Levels, pattern, wants_areas
from bench.errors import InputError


@dataclass(frozen=True)
class MaskRule:
    """How a plane of values becomes one mask per label; `text` says it in words.

    `values`: those of every label; None where everything but the background is one label. `cut`: greys above it are
    the label, below it the background (greys of a binary mask); the other way round where the background is light.
    """

    labels: tuple[str, ...]
    values: tuple[tuple[int, ...], ...] | None
    text: str
    cut: int | None = None
    ignore: int | None = None
    background: int = 0

    def mask(self, plane: np.ndarray, label: int) -> np.ndarray:
        """Mask (*S) bool of one label in a plane (*S)."""
        if self.values is not None:
            some = self.values[label]
            return plane == some[0] if len(some) == 1 else np.isin(plane, some)
        if self.cut is not None:
            chosen = plane > self.cut if self.background <= self.cut else plane <= self.cut
        else:
            chosen = plane != self.background
        return chosen if self.ignore is None else chosen & (plane != self.ignore)

    def ignored(self, plane: np.ndarray) -> np.ndarray | None:
        """Elements (*S) bool that no metric sees; None without any."""
        if self.ignore is None:
            return None
        left_out = plane == self.ignore
        return left_out if left_out.any() else None

    def facts(self) -> dict[str, Any]:
        """The rule as plain data, for the record."""
        values = None if self.values is None else dict(zip(self.labels, map(list, self.values), strict=True))
        known = {"text": self.text, "values": values, "cut": self.cut, "ignore": self.ignore}
        return {**known, "background": self.background or None}


@dataclass(frozen=True, eq=False)
class LabelMasks:
    """The masks of a plane (*S) under a rule, each made when it is asked for: there may be a hundred labels."""

    rule: MaskRule
    plane: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """(L, *S)."""
        return (len(self.rule.labels), *self.plane.shape)

    def __getitem__(self, label: int) -> np.ndarray:
        """(*S) bool; IndexError for a label that the rule has not."""
        return self.rule.mask(self.plane, range(self.shape[0])[label])

    def stack(self) -> np.ndarray:
        """All of them, (L, *S) bool."""
        return np.stack([self[label] for label in range(self.shape[0])])


def simple(present: tuple[int, ...], declared: Declared) -> bool:
    """Whether a file with these values other than 0 is read alike in every folder, or its folder refused."""
    if _named(declared):
        known = {declared.ignore, declared.background, *(v for some in (declared.labels or {}).values() for v in some)}
        return known.issuperset(present)
    own = [v for v in present if v != declared.ignore]
    return declared.background == 0 and len(own) <= 1 and set(FOREGROUND).issuperset(own)


def plain_rule(declared: Declared) -> MaskRule:
    """The rule of a file that is `simple`."""
    return _rule(declared, tuple((declared.labels or {}).values()) if _named(declared) else None, "")


def _named(declared: Declared) -> bool:
    """Whether labels have values of their own: one name alone is that of a binary mask."""
    one_name = declared.complete and len(declared.labels or ()) == 1
    return declared.labels is not None and declared.mask != "binary" and not one_name


def decide(levels: Levels, declared: Declared, where: str) -> MaskRule:
    """The rule for files with these levels; raises InputError, naming `where` and the option that settles it."""
    special = {declared.background, declared.ignore}
    values = sorted(v for v in levels.counts if v not in special)
    shape = pattern(levels) if wants_areas(levels) else "ids"
    if _named(declared):
        return _stated(levels, declared, values, shape, where)
    if declared.mask == "binary":
        return _binary(levels, declared, values, shape, where)
    if declared.mask != "labels":
        check_background(levels, declared, where, dark=half(levels) if shape == "soft" else -1)
    if shape == "soft":
        check_soft_files(levels, where)
        return _rule(declared, None, f"binary, greys cut above {half(levels)} of {levels.full}", cut=half(levels))
    if shape == "noise" and declared.mask != "labels":
        raise InputError(noise_error(levels, declared, where))
    if shape == "unclear" and declared.mask != "labels":
        raise InputError(
            f"{where}: the values {show_all(values)} may be labels or the greys of soft outlines; say "
            f"{declared.named('mask')}binary, or name them: {naming(declared, values)}"
        )
    if declared.mask != "labels" and (rule := _two_valued(levels, declared, values)):
        return rule
    return _ids(levels, declared, values, where)


def _rule(declared: Declared, values: tuple[tuple[int, ...], ...] | None, text: str, **more: Any) -> MaskRule:
    labels = tuple(declared.labels or ("foreground",))
    said = f", background {show(declared.background)}" if declared.background else ""
    said += f", ignored {show(declared.ignore)}" if declared.ignore is not None else ""
    return MaskRule(labels, values, text + said, ignore=declared.ignore, background=declared.background, **more)


def _stated(levels: Levels, declared: Declared, values: list[int], shape: str, where: str) -> MaskRule:
    assert declared.labels is not None
    known = {v for some in declared.labels.values() for v in some}
    strangers = [v for v in values if v not in known]
    if strangers and shape in ("soft", "noise") and declared.mask != "labels":
        raise InputError(noise_error(levels, declared, where))
    if strangers and declared.complete:
        raise InputError(
            f"{holder(levels, strangers[:1], where)}: holds the value {show(strangers[0])}, which has no label; "
            f"name it: {naming(declared, values)}; or say {declared.named('ignore')}{show(strangers[0])}"
        )
    named = ", ".join(f"{name} = {'+'.join(map(show, some))}" for name, some in declared.labels.items())
    rest = f"; as background {show_all(strangers)}" if strangers else ""
    return _rule(declared, tuple(declared.labels.values()), f"labels {named}{rest}")


def _binary(levels: Levels, declared: Declared, values: list[int], shape: str, where: str) -> MaskRule:
    light = max(values, default=0) >= 208 * levels.full / 255
    if shape in ("soft", "noise") and light:
        check_soft_files(levels, where)
        return _rule(declared, None, f"binary, greys cut at {half(levels)} of {levels.full}", cut=half(levels))
    first = "fractions cut at one half, then " if levels.halved else ""
    return _rule(declared, None, f"binary, {first}everything but {show(declared.background)} is foreground")


def _two_valued(levels: Levels, declared: Declared, values: list[int]) -> MaskRule | None:
    """The rule where every file has one value beside the background, and these can be taken for the same label."""
    special = {declared.background, declared.ignore}
    kinds = Counter(v for present in levels.by_file.values() if (own := set(present) - special) for v in own)
    single = all(len(set(present) - special) <= 1 for present in levels.by_file.values())
    colours = [v for v in values if v >= COLOUR]
    others = [v for v in values if v < COLOUR and v not in (*FOREGROUND, 0)]
    if not single or 0 in values or len(colours) > 1 or len(others) > 1 or (others and len(values) > 1):
        return None
    if others:  # one odd value: only that is the foreground, so that two sides which mean other things do not agree
        return _rule(declared, ((others[0],),), f"binary, foreground {others[0]}")
    said = " or ".join(
        f"{show(v)} in {n} of {len(levels.by_file)} files" if len(kinds) > 1 else show(v)
        for v, n in sorted(kinds.items())
    )
    return _rule(declared, None, f"binary, foreground {said}" if said else "binary, all empty")


def _ids(levels: Levels, declared: Declared, values: list[int], where: str) -> MaskRule:
    if declared.mask != "labels":
        check_white(levels, declared, values, where)
    if declared.mask == "auto":
        check_one_grey(levels, declared, values, where)
    if declared.complete or (declared.labels is not None):
        raise InputError(
            f"{holder(levels, values[:1], where)}: a mask of several labels, {show_all(values)}; "
            f"name them: {naming(declared, values)}"
        )
    names = {show(v): (v,) for v in values}
    kind = "colours" if any(v >= COLOUR for v in values) else "ids"
    named = Declared(declared.mask, names, declared.ignore, declared.background, option=declared.option)
    return _rule(named, tuple(names.values()), f"labels by their {kind} {show_all(values)}")
