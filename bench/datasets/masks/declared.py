"""What a user states about masks: which values mean what. Nothing stated leaves the decision to `rule.decide`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from bench.errors import InputError

Kind = Literal["auto", "binary", "labels", "onehot", "index"]
COLOUR = 1 << 24  # the value of a colour is COLOUR + 0xRRGGBB; that of a grey is its level
LARGEST = 65535


@dataclass(frozen=True)
class Declared:
    """What is stated about the masks of one folder.

    `mask`: "binary" (everything but the background is one label), "labels" (each value is a label), "onehot" (one
    channel per label, channel 0 the background), "index" (palette images by their index, else by colour), or "auto".
    `labels`: the values of every label; labels may share values (merged regions). `complete`: there are no others.
    `ignore`: elements that no metric sees, of references only. `background`: the value that is no label.
    `option` is how a message writes an option of this folder, "--{}" say.
    """

    mask: Kind = "auto"
    labels: Mapping[str, tuple[int, ...]] | None = None
    ignore: int | None = None
    background: int = 0
    complete: bool = False
    option: str = "--{}"

    def __post_init__(self) -> None:
        if self.mask not in get_args(Kind):
            raise InputError(f"{self.named('mask')}{self.mask}: unknown; use one of {', '.join(get_args(Kind))}")
        if self.mask == "binary" and self.labels and len(self.labels) > 1:
            raise InputError(f"{self.named('mask')}binary: names one label at the most, not {', '.join(self.labels)}")
        for what, value in (("background", self.background), ("ignore", self.ignore)):
            for name, values in (self.labels or {}).items():
                if value is not None and value in values and (what == "ignore" or value != 0 or self.background == 0):
                    raise InputError(f"label {name!r}: {show(value)} is the {what} value; say {self.named(what)}OTHER")

    def named(self, option: str) -> str:
        """How a message begins an option: `--ignore ` or `dataset.ignore=`."""
        text = self.option.format(option.replace("_", "-") if self.option.startswith("--") else option)
        return f"{text} " if self.option.startswith("--") else f"{text}="


def declared(
    mask: str = "auto",
    labels: Any = None,
    ignore: Any = None,
    background: Any = 0,
    *,
    option: str = "--{}",
) -> Declared:
    """A `Declared` from plain values of a command line or a configuration; raises InputError naming the bad one.

    `labels` is a name or a list of names (values 1, 2, ..., and no others), or a mapping of names to values: a whole
    number, a colour "#ff0000", or several of them, as a list or joined by "+".
    """
    known, complete = _labels(labels)
    return Declared(
        mask=mask,  # type: ignore[arg-type]  # checked there
        labels=known,
        ignore=None if ignore is None else parse_value(ignore),
        background=parse_value(background),
        complete=complete and mask != "binary",
        option=option,
    )


def parse_pairs(text: str) -> dict[str, str]:
    """`liver=1,tumour=2+3` as a mapping; raises InputError naming the piece that is none."""
    pieces = [piece.partition("=") for piece in text.split(",") if piece.strip()]
    bad = [name for name, sign, value in pieces if not (name.strip() and sign and value.strip())]
    if bad or not pieces:
        raise InputError(f"labels {text!r}: expected NAME=VALUE[,NAME=VALUE...], for example liver=1,tumour=2+3")
    names = [name.strip() for name, *_ in pieces]
    if len(set(names)) < len(names):
        raise InputError(f"labels {text!r}: expected distinct names; join the values of one label by +, a=1+2")
    return {name.strip(): value.strip() for name, _, value in pieces}


def parse_value(value: Any) -> int:
    """A value of a mask: a whole number, or a colour `#rrggbb` (a grey one is its level)."""
    text = str(value).strip()
    if re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        red, green, blue = bytes.fromhex(text[1:])
        return red if red == green == blue else COLOUR + (red << 16) + (green << 8) + blue
    if re.fullmatch(r"[+-]?\d{1,5}", text) and abs(int(text)) <= LARGEST and not isinstance(value, bool):
        return int(text)
    raise InputError(f"mask value {text!r}: expected a whole number up to {LARGEST}, or a colour like #ff0000")


def show(value: int) -> str:
    """A value as it is written on the command line."""
    return f"#{value - COLOUR:06x}" if value >= COLOUR else str(value)


def show_all(values: Sequence[int], most: int = 8) -> str:
    """Several values, the first few of them."""
    return ", ".join(map(show, values[:most])) + (", ..." if len(values) > most else "")


def _labels(labels: Any) -> tuple[dict[str, tuple[int, ...]] | None, bool]:
    if labels is None:
        return None, False
    if isinstance(labels, Mapping):
        known = {str(name): _values(value) for name, value in labels.items()}
        if not known or len(set(known.values())) < len(known):
            raise InputError(f"labels {labels!r}: expected names with distinct values above 0")
        return known, False
    names = [labels] if isinstance(labels, str) else [str(name) for name in labels]
    if not names or len(set(names)) < len(names):
        raise InputError(f"labels {names}: expected distinct names")
    return {name: (number,) for number, name in enumerate(names, 1)}, True


def _values(value: Any) -> tuple[int, ...]:
    several = value if isinstance(value, list | tuple) else str(value).split("+")
    return tuple(sorted({parse_value(one) for one in several}))
