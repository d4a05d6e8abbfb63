"""The decision how the masks of one folder are read, and the reading."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.datasets.masks.declared import COLOUR, Declared, show, show_all
from bench.datasets.masks.levels import Levels, pattern, wants_areas
from bench.errors import InputError

_FOREGROUND = (1, 255, 65535)  # what a binary mask has for its one label
_IDS_START, _IDS_END = 32, 128  # beside ids that begin and end below these, 255 is rather to be ignored than an id


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
    return declared.background == 0 and len(own) <= 1 and set(_FOREGROUND).issuperset(own)


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
        _check_background(levels, declared, where, dark=_half(levels) if shape == "soft" else -1)
    if shape == "soft":
        _check_soft_files(levels, where)
        return _rule(declared, None, f"binary, greys cut above {_half(levels)} of {levels.full}", cut=_half(levels))
    if shape == "noise" and declared.mask != "labels":
        raise InputError(_noise_error(levels, declared, where))
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
        raise InputError(_noise_error(levels, declared, where))
    if strangers and declared.complete:
        raise InputError(
            f"{_holder(levels, strangers[0], where)}: holds the value {show(strangers[0])}, which has no label; "
            f"name it: {naming(declared, values)}; or say {declared.named('ignore')}{show(strangers[0])}"
        )
    named = ", ".join(f"{name} = {'+'.join(map(show, some))}" for name, some in declared.labels.items())
    rest = f"; as background {show_all(strangers)}" if strangers else ""
    return _rule(declared, tuple(declared.labels.values()), f"labels {named}{rest}")


def _binary(levels: Levels, declared: Declared, values: list[int], shape: str, where: str) -> MaskRule:
    light = max(values, default=0) >= 208 * levels.full / 255
    if shape in ("soft", "noise") and light:
        _check_soft_files(levels, where)
        return _rule(declared, None, f"binary, greys cut at {_half(levels)} of {levels.full}", cut=_half(levels))
    return _rule(declared, None, f"binary, everything but {show(declared.background)} is foreground")


def _two_valued(levels: Levels, declared: Declared, values: list[int]) -> MaskRule | None:
    """The rule where every file has one value beside the background, and these can be taken for the same label."""
    special = {declared.background, declared.ignore}
    kinds = Counter(v for present in levels.by_file.values() if (own := set(present) - special) for v in own)
    single = all(len(set(present) - special) <= 1 for present in levels.by_file.values())
    colours = [v for v in values if v >= COLOUR]
    others = [v for v in values if v < COLOUR and v not in (*_FOREGROUND, 0)]
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
    white = levels.full
    others = [v for v in values if v != white]
    small = bool(others) and min(others) < _IDS_START and max(others) < _IDS_END
    if declared.mask != "labels" and white in values and small:
        raise InputError(
            f"{where}: {white} beside the values {show_all(others)} may be a value to "
            f"ignore; say {declared.named('ignore')}{white}, or name the labels: {naming(declared, values)}"
        )
    if declared.complete or (declared.labels is not None):
        raise InputError(
            f"{_holder(levels, values[0], where)}: a mask of several labels, {show_all(values)}; "
            f"name them: {naming(declared, values)}"
        )
    names = {show(v): (v,) for v in values}
    kind = "colours" if any(v >= COLOUR for v in values) else "ids"
    named = Declared(declared.mask, names, declared.ignore, declared.background, option=declared.option)
    return _rule(named, tuple(names.values()), f"labels by their {kind} {show_all(values)}")


def _check_background(levels: Levels, declared: Declared, where: str, dark: int) -> None:
    """Refuse where something other than the background seems to be it; greys up to `dark` count as black."""
    black = {declared.background, declared.ignore, *(v for v in levels.counts if v <= dark)}
    if levels.counts and not black & set(levels.counts) and not set(levels.counts) <= set(_FOREGROUND):
        raise InputError(
            f"{where}: no mask holds the background {show(declared.background)}, all of them only "
            f"{show_all(sorted(levels.counts))}; say which one it is by {declared.named('background')}VALUE"
        )
    if levels.mixed or len(levels.corners) != 1:
        return
    (value,) = levels.corners
    if value not in black:
        raise InputError(
            f"{where}: {show(value)} fills the corners of every mask, so it may be the background; say "
            f"{declared.named('background')}{show(value)}, or if {show(declared.background)} is, "
            f"{declared.named('mask')}binary or {declared.named('mask')}labels"
        )


def _check_soft_files(levels: Levels, where: str) -> None:
    for name, present in levels.by_file.items():
        if present and max(present) <= _half(levels):
            raise InputError(
                f"{where}/{name}: values up to {max(present)}, where other masks of the folder reach {levels.full}; "
                f"save all masks as 0 and 255"
            )


def _half(levels: Levels) -> int:
    return 128 if levels.full == 255 else 128 * 256


def _holder(levels: Levels, value: int, where: str) -> str:
    return next((f"{where}/{name}" for name, present in levels.by_file.items() if value in present), where)


def _noise_error(levels: Levels, declared: Declared, where: str) -> str:
    worst = max(levels.by_file, key=lambda name: len(levels.by_file[name]))
    return (
        f"{where}/{worst}: not a mask: {len(levels.by_file[worst])} values, many of which fill no area, as in a score "
        f"or in a mask that was resized or compressed; save masks without loss, or say {declared.named('mask')}binary "
        f"to cut greys at {_half(levels)}, {declared.named('mask')}labels if each value is a label"
    )


def naming(declared: Declared, values: list[int], option: str = "labels") -> str:
    """How to name these values, as a message says it."""
    some = [show(v) for v in values if v != declared.background][:3]
    index = f", or {declared.named('mask')}index if palettes go by index" if max(values, default=0) >= COLOUR else ""
    if declared.option.startswith("--"):
        return f"{declared.named(option)}{','.join(f'NAME={v}' for v in some)}{index}"
    quoted = (f"NAME: '{v}'" if v.startswith("#") else f"NAME: {v}" for v in some)
    return f"{declared.named(option)}{{{', '.join(quoted)}}}{index}"
