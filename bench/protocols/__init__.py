"""The named protocols: `strict`, which is ours, and what papers and tools did, so that gaps can be told from gains."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from bench.errors import InputError
from bench.protocols.diff_unet import DIFF_UNET, DIFF_UNET_VALIDATION
from bench.protocols.libraries import MONAI, NNUNET
from bench.protocols.medsegdiff import medsegdiff
from bench.protocols.protocol import Protocol
from bench.protocols.sdseg import sdseg
from bench.protocols.ssformer import SSFORMER

STRICT = Protocol(
    name="strict",
    description="Ours: every case and label on its own grid, nothing dropped, undefined values counted",
    targets="every case and label; an image or a whole volume is a case",
    grid="the reference's own, with its spacing",
    empty="both empty undefined and counted; one empty the worst value: 0, and the image's diagonal for distances",
)

_FIXED = {protocol.name: protocol for protocol in (STRICT, DIFF_UNET, DIFF_UNET_VALIDATION, SSFORMER, NNUNET, MONAI)}
_SIZED: dict[str, Callable[[int], Protocol]] = {"sdseg": sdseg, "medsegdiff": medsegdiff}

PROTOCOLS = ("strict", "sdseg", "medsegdiff", "diff_unet", "diff_unet_validation", "ssformer", "nnunet", "monai")


def protocol_settings(name: str, size: int) -> dict[str, Any]:
    """A protocol with the settings it has, as the configuration of a run states them."""
    return {"name": name, **({"size": size} if name in _SIZED else {})}


def build_protocol(name: str, size: Any = 256) -> Protocol:
    """The protocol of a name; those of networks with a fixed input take its in-plane `size` in pixels.

    Raises InputError for an unknown name, with a guess, and for a size that is none.
    """
    if name not in PROTOCOLS:
        close = difflib.get_close_matches(name, PROTOCOLS, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise InputError(f"protocol {name!r}: unknown; {hint}available: {', '.join(PROTOCOLS)}")
    if not isinstance(size, int) or size < 1:
        raise InputError(f"protocol {name!r}: size {size!r}, expected a positive number of pixels")
    return _FIXED[name] if name in _FIXED else _SIZED[name](size)
