"""The audit as one page that needs no other file: what was found, and the nearest pairs side by side."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from bench.datasets.audit.checks import Audit, Pair, heading
from bench.datasets.audit.kinds import KINDS

SHOWN = 40  # pairs
_SIDE = 200  # pixels of a thumbnail
_HERE = Path(__file__).parent


def render_page(audit: Audit, image: Callable[[str], np.ndarray]) -> str:
    """HTML text; `image` gives (C, *S) of a case, of which the worst pairs are shown."""
    options: dict[str, Any] = {"autoescape": True, "undefined": StrictUndefined, "trim_blocks": True}
    environment = Environment(loader=FileSystemLoader(_HERE), lstrip_blocks=True, **options)
    groups = [
        {"finding": KINDS[kind].finding, "heading": heading(kind, split, len(troubles)), "troubles": troubles}
        for (kind, split), troubles in audit.groups().items()
    ]
    pairs = [_pair(pair, image) for pair in audit.pairs[:SHOWN]]
    return environment.get_template("page.html").render(audit=audit, groups=groups, pairs=pairs)


def _pair(pair: Pair, image: Callable[[str], np.ndarray]) -> dict[str, Any]:
    where = [{"name": name, "a": a, "b": b, "leaks": a != b} for name, (a, b) in pair.splits.items()]
    pictures = [{"case": case, "data": thumbnail(image(case))} for case in pair.cases]
    return {"pictures": pictures, "correlation": f"{pair.correlation:.2f}", "where": where}


def thumbnail(image: np.ndarray) -> str:
    """A `data:` address of a small picture of an image (C, *S); of a volume its middle slice."""
    plane = image[:, image.shape[1] // 2] if image.ndim == 4 else image
    plane = plane if len(plane) == 3 else plane[:1].repeat(3, axis=0)
    low, high = np.percentile(plane, [0.5, 99.5])
    if plane.min() >= 0 and plane.max() <= 255 and high > 1:  # a photograph, shown as it is
        low, high = 0, 255
    grey = ((plane - low) / max(high - low, 1e-6) * 255).clip(0, 255).astype(np.uint8)
    small = Image.fromarray(np.moveaxis(grey, 0, -1))
    small.thumbnail((_SIDE, _SIDE))
    packed = io.BytesIO()
    small.save(packed, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode()
