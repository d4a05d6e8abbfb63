"""Keys on the command line that change nothing, because no chosen method or data set looks at them."""

from __future__ import annotations

import re
from typing import Any

from omegaconf import OmegaConf

from bench.config import cell_overrides, composed
from bench.quoting import quote_overrides

# Keys that a method or a data set must name to be moved by them.
_SHARED = {
    *("architecture", "autoencoder", "denoiser_weights", "fidelity", "unet_features", "diff_unet_features", "window"),
    *("medsegdiff", "resnet", "efficientnet", "swin_unetr", "nnunet", "window_overlap"),
    *("train", "train_3d", "train_supervised", "train_medsegdiff"),
}
_RECIPES = {"train_3d", "train_supervised", "train_medsegdiff"}


def idle_keys(overrides: list[str]) -> list[str]:
    """The shared keys among overrides that no cell of theirs refers to; overrides as for `bench.config.expand`."""
    given = {o.lstrip("+~").partition("=")[0].partition(".")[0] for o in overrides} & _SHARED
    if not given:
        return []
    sections: list[Any] = []
    for cell in {tuple(cell[:2]): cell for cell in cell_overrides(overrides)}.values():  # whatever the seed
        config = composed(quote_overrides(cell))
        sections += [OmegaConf.to_container(config[key], resolve=False) for key in ("method", "dataset")]
    used = set(re.findall(r"\$\{(\w+)", str(sections)))
    # `train.KEY` on the command line speaks of every method.
    return sorted(given - used - ({"train"} if used & _RECIPES else set()))
