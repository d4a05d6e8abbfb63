"""TransU-Net's and SwinU-Net's golden data: stages, losses and steps of the released code on procedural weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn

import sdseg  # noqa: F401 - first, so that timm can import torchvision
from baselines.networks.swin_unet import SwinUNet
from baselines.networks.trans_unet import TransUNet
from baselines.objectives import CeDice
from baselines.supervised import Supervised
from sdseg.training.batches import TrainingBatch
from sdseg.training.recipe import Recipe
from sdseg.training.trainer import TrainingLoop
from tests.parity import folder, procedural

_OWN_NAMES = {
    "transunet": (
        (r"hybrid\.root", "transformer.embeddings.hybrid_model.root"),
        (r"hybrid\.block", "transformer.embeddings.hybrid_model.body.block"),
        (r"hybrid\.out", "transformer.embeddings.hybrid_model"),
        (r"skip(\d)", r"transformer.embeddings.hybrid_model:\1"),
        (r"patch_embeddings", "transformer.embeddings.patch_embeddings"),
        (r"embeddings", "transformer.embeddings"),
        (r"layer(\d+)", r"transformer.encoder.layer.\1"),
        (r"encoder_norm", "transformer.encoder.encoder_norm"),
        (r"conv_more", "decoder.conv_more"),
        (r"decoder\.block(\d)", r"decoder.blocks.\1"),
    ),
    "swinunet": ((r"", "swin_unet."),),
}


class Golden(folder.GoldenFolder):
    """The whole folder, and the project's networks with its procedural weights."""

    def __init__(self, name: str) -> None:
        super().__init__(name, "manifest_tiny64.json")
        self.name = name
        # The released weights of the two parts of the loss.
        self.objective = CeDice(0.5, 0.5) if name == "transunet" else CeDice(0.4, 0.6)

    def manifest(self, config: str) -> dict[str, list[int]]:
        """Shapes by name, without the constants of the geometry."""
        tensors = self.json(f"manifest_{config}")["tensors"]
        return {name: entry["shape"] for name, entry in tensors.items() if not entry.get("computed")}

    def network(self, config: str) -> Any:
        """The network of a configuration as it is built, in eval mode."""
        c = self.json("config")["configs"][config]
        if self.name == "swinunet":
            shape = (c["embed_dim"], c["depths"], c["num_heads"], c["window_size"], c["drop_path_rate"])
            return SwinUNet(3, c["classes"], c["img_size"], *shape).eval()
        transformer = (c["hidden_size"], c["mlp_dim"], c["heads"], c["layers"])
        trunk = (c["resnet_units"], c["resnet_width"], c["decoder_channels"], c["n_skip"], c["dropout_rate"])
        return TransUNet(3, c["classes"], c["img_size"], *transformer, *trunk).eval()

    def loaded(self, config: str, folder: Path) -> Any:
        """That network with a procedural checkpoint, read from a file as the released scripts write it."""
        network, state = self.network(config), self.official_state(config)
        torch.save({f"module.{name}": tensor for name, tensor in state.items()}, folder / "official.pth")
        network.load_pretrained(str(folder / "official.pth"))
        return network

    def official_state(self, config: str) -> dict[str, torch.Tensor]:
        """A complete procedural checkpoint, with what such files hold besides."""
        weights = {k: procedural.weight(k, shape, self.salt) for k, shape in self.manifest(config).items()}
        entries = self.json(f"manifest_{config}")["tensors"]
        computed = {k: torch.zeros(e["shape"]) for k, e in entries.items() if e.get("computed")}
        counted = {f"{next(iter(weights)).rpartition('.')[0]}.total_ops": torch.zeros(1)}
        return {**weights, **computed, **counted}

    def label_map(self, names: list[str], side: int) -> torch.Tensor:
        """Ellipses of the classes 1, 2, 3 painted one over the other: (B, side, side)."""
        label = torch.zeros(len(names), side, side, dtype=torch.uint8)
        for row, name in enumerate(names):
            for c in (1, 2, 3):
                label[row][procedural.ellipse(f"{name}_class{c}", self.salt, side)] = c
        return label

    def check(self, item: str, stage: str, actual: torch.Tensor) -> None:
        """Compare a stage of an item of `net` within its own limit."""
        entry = self.json("stats")[item][stage]
        assert list(actual.shape) == entry["shape"], f"{item} {stage}"
        stored = self.tensors("net", f"{item}/")["logits" if stage == "logits" else f"cap/{stage}"]
        part = tuple(map(_slice, entry.get("stored", "[...]")[1:-1].split(", ")))
        folder.check(f"{item} {stage}", actual[part], stored, self._limit(item, stage))

    def _limit(self, item: str, stage: str) -> float:
        if stage == "logits":
            limits = self.tolerance["logits"]
            return limits.get("full" if item.startswith("full") else "tiny", limits)["strict"]
        measured, rule = self.json("tolerance")["items"][item][stage]["max_abs_diff"], self.tolerance["stages"]
        return max(rule["at_least"], rule["times_measured"] * measured)

    def stages(self, network: nn.Module, image: torch.Tensor) -> dict[str, torch.Tensor]:
        """Outputs of the modules by name, of several outputs as `name` and `name:n`; tokens as rows."""
        seen: dict[str, torch.Tensor] = {}

        def keep(name: str, output: Any) -> None:
            first, rest = output if isinstance(output, tuple) else (output, [])
            for key, x in [(name, first), *((f"{name}:{i}", one) for i, one in enumerate(rest))]:
                seen[key] = x.flatten(1, 2) if self.name == "swinunet" else x

        hooks = [
            module.register_forward_hook(lambda _, __, output, name=name: keep(name, output))
            for name, module in network.named_modules()
            if name
        ]
        with torch.no_grad():
            seen["logits"] = network(image)
        for hook in hooks:
            hook.remove()
        return seen

    def own_name(self, stage: str) -> str:
        """Under which name `stages` has it."""
        for pattern, own in _OWN_NAMES[self.name]:
            if re.match(pattern, stage):
                return re.sub(pattern, own, stage, count=1)
        raise AssertionError(stage)

    def training_loop(self, network: nn.Module, workdir: Path) -> TrainingLoop:
        """The project's own training, by the settings of the released three steps."""
        settings = self.json("optim")
        recipe = Recipe(
            steps=settings["max_iterations"],
            batch_size=2,
            lr=settings["base_lr"],
            optimizer="sgd",
            momentum=settings["momentum"],
            weight_decay=settings["weight_decay"],
            decay="poly",
        )
        return TrainingLoop(Supervised(network, objective=self.objective), [None, None], recipe, workdir, 0, "cpu")

    def step_batch(self, step: int) -> TrainingBatch:
        """What one of those steps sees."""
        label = self.label_map([f"opt/step{step}/mask_{j}" for j in range(2)], 64)
        return TrainingBatch(self.image(f"opt/step{step}/image", 2, 3, 64, 64), masks(label), None)


def masks(label: torch.Tensor, labels: int = 3) -> torch.Tensor:
    """A label map (B, H, W) as masks (B, L, H, W) bool."""
    return torch.stack([label == c for c in range(1, labels + 1)], 1)


def without_drops(network: nn.Module) -> nn.Module:
    """In training mode, and nothing random."""
    for module in network.train().modules():
        for rate in ("p", "drop_prob"):
            if hasattr(module, rate):
                setattr(module, rate, 0.0)
    return network


def _slice(text: str) -> Any:
    return ... if text == "..." else slice(*(int(n) if n else None for n in text.split(":")))
