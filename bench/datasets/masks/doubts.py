"""What the files of a folder leave open about their masks: each doubt refused in one line, with what settles it."""

from __future__ import annotations

from collections.abc import Collection

from bench.datasets.masks.declared import COLOUR, Declared, show, show_all
from bench.datasets.masks.levels import Levels
from bench.errors import InputError

FOREGROUND = (1, 255, 65535)  # what a binary mask has for its one label
_IDS_START, _IDS_END = 32, 128  # beside ids that begin and end below these, 255 is rather to be ignored than an id


def check_white(levels: Levels, declared: Declared, values: list[int], where: str) -> None:
    """Refuse white beside small ids, naming a file of whichever occurs in fewer elements: it may be a stray one."""
    white = levels.full
    others = [v for v in values if v != white]
    if white not in values or not others or min(others) >= _IDS_START or max(others) >= _IDS_END:
        return
    sides = sorted([others, [white]], key=lambda some: sum(levels.counts[v] for v in some))
    rarer, other = (f"{show_all(some)} ({_spread(levels, some)})" for some in sides)
    raise InputError(
        f"{holder(levels, sides[0], where)}: {rarer} beside {other}: {white} may be a value to ignore; say "
        f"{declared.named('ignore')}{white}, name the labels: {naming(declared, values)}, or mend the file"
    )


def check_one_grey(levels: Levels, declared: Declared, values: list[int], where: str) -> None:
    """Refuse values that differ from file to file, one in each, and are no ids: one label in several greys."""
    special = {declared.background, declared.ignore}
    held = [set(present) - special for present in levels.by_file.values()]
    grey = [v for v in values if v < COLOUR]
    ids = not grey or max(values) < _IDS_START or (values[0] < _IDS_START and values[-1] - values[0] < len(values))
    if ids or 0 in values or len(values) < 2 or max(map(len, held)) > 1:
        return
    odd = min(values, key=lambda v: sum(v in own for own in held))
    others = show_all([v for v in values if v != odd])
    raise InputError(
        f"{holder(levels, [odd], where)}: holds {show(odd)} where other masks of the folder hold {others}; save all "
        f"masks with the same value, or say {declared.named('mask')}binary if each is the one label, "
        f"{declared.named('mask')}labels if each is a label of its own"
    )


def check_background(levels: Levels, declared: Declared, where: str, dark: int) -> None:
    """Refuse where something other than the background seems to be it; greys up to `dark` count as black."""
    black = {declared.background, declared.ignore, *(v for v in levels.counts if v <= dark)}
    if levels.counts and not black & set(levels.counts):
        held = sorted(levels.counts)
        ground = show(held[0]) if len(held) == 1 else "VALUE"
        raise InputError(
            f"{where}: no mask holds the background {show(declared.background)}, all of them only {show_all(held)}; "
            f"say {declared.named('background')}{ground} if that is it, {declared.named('mask')}binary or "
            f"{declared.named('mask')}labels if none is"
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


def check_soft_files(levels: Levels, where: str) -> None:
    """Refuse a file of faint values among soft masks, such as 0 and 1 among 0 to 255."""
    for name, present in levels.by_file.items():
        if present and max(present) <= half(levels):
            raise InputError(
                f"{where}/{name}: values up to {max(present)}, where other masks of the folder reach {levels.full}; "
                f"save all masks as 0 and 255"
            )


def half(levels: Levels) -> int:
    """The value at which greys are cut."""
    return 128 if levels.full == 255 else 128 * 256


def holder(levels: Levels, values: Collection[int], where: str) -> str:
    """The first file that holds one of the values, as a message begins."""
    return next((f"{where}/{name}" for name, present in levels.by_file.items() if set(values) & set(present)), where)


def _spread(levels: Levels, values: Collection[int]) -> str:
    count = sum(levels.counts[v] for v in values)
    files = sum(bool(set(values) & set(present)) for present in levels.by_file.values())
    return f"{count} element{'s' * (count != 1)} in {files} of {len(levels.by_file)} files"


def noise_error(levels: Levels, declared: Declared, where: str) -> str:
    """That a file holds a score or a photograph, as a message."""
    worst = max(levels.by_file, key=lambda name: len(levels.by_file[name]))
    return (
        f"{where}/{worst}: not a mask: {len(levels.by_file[worst])} values, many of which fill no area, as in a score "
        f"or in a mask that was resized or compressed; save masks without loss, or say {declared.named('mask')}binary "
        f"to cut greys at {half(levels)}, {declared.named('mask')}labels if each value is a label"
    )


def naming(declared: Declared, values: list[int], option: str = "labels") -> str:
    """How to name these values, as a message says it."""
    some = [show(v) for v in values if v != declared.background][:3]
    index = f", or {declared.named('mask')}index if palettes go by index" if max(values, default=0) >= COLOUR else ""
    if declared.option.startswith("--"):
        return f"{declared.named(option)}{','.join(f'NAME={v}' for v in some)}{index}"
    quoted = (f"NAME: '{v}'" if v.startswith("#") else f"NAME: {v}" for v in some)
    return f"{declared.named(option)}{{{', '.join(quoted)}}}{index}"
