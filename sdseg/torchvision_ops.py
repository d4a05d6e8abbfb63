"""Declares torchvision's operators where its compiled part cannot be loaded (a CUDA build beside a CPU torch).

torchvision registers fake kernels for its operators on import and fails when the operators do not exist;
with it fail lpips, torchmetrics and diffusers, none of which call them here. Declaring their schemas is enough.
"""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path

import torch

# Signatures that torchvision registers fake kernels for; nothing in this project calls any of them.
_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def _compiled_part_loads(folder: Path) -> bool:
    libraries = [*folder.glob("_C*.so"), *folder.glob("_C*.pyd")]
    try:
        for library in libraries:
            torch.ops.load_library(library)
    except OSError:
        return False
    return bool(libraries)


@functools.cache
def declare_missing_operators() -> bool:
    """Make `import torchvision` work beside any torch; True if operators had to be declared."""
    spec = find_spec("torchvision")
    if spec is None or not spec.submodule_search_locations:
        return False
    if _compiled_part_loads(Path(spec.submodule_search_locations[0])):
        return False
    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in _SCHEMAS:
        if not hasattr(torch.ops.torchvision, schema.split("(")[0]):
            library.define(schema)
    _keep_alive.append(library)
    return True


_keep_alive: list[torch.library.Library] = []
