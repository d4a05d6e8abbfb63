"""Composes the configuration with Hydra and expands it into the cells of the benchmark."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench import plugins
from bench.errors import InputError
from bench.limits import check_numbers
from bench.quoting import quote_overrides
from bench.settings import check_settings
from bench.sources import CODE_KEYS
from bench.trust import CONF_DIR, check_code

# Everything in bench.metrics by name: importing it here would make every command wait for SciPy.
METRICS = (
    *("Dice", "IoU", "Sensitivity", "Precision", "HD95", "ASSD", "NSD"),
    *("VolumeDifference", "RelativeVolumeDifference", "VolumeBias", "missed", "hallucinated", "both_empty"),
    *("ECE", "Brier"),
)


@dataclass
class TrainConfig:
    """How a method trains; `sdseg.training.recipe.Recipe` says what each key means."""

    steps: int = MISSING
    batch_size: int = MISSING
    accumulate: int = 1
    lr: float = MISSING
    weight_decay: float = 0.01
    warmup: int = 0
    decay: str = "constant"
    ema_decay: float = 0.9999
    max_grad_norm: float | None = None
    flips: list[str] = field(default_factory=lambda: ["horizontal", "vertical"])
    crop: Any = None
    crops_on_target: float = 0.0
    validate_every: int = 2000
    checkpoint_every: int = 500
    precision: str = "no"
    workers: int = 0
    cache_latents: bool = True
    channels_last: bool = False
    compile: bool = False
    checkpoint_activations: bool = False


@dataclass
class MeasureConfig:
    """How speed is measured: timed and warm-up calls per batch size, and the seconds that either may take.

    Three calls are timed in any case.
    """

    rounds: int = MISSING
    warmup: int = MISSING
    seconds: float = 60.0
    batch_sizes: list[int] = field(default_factory=lambda: [1])


@dataclass
class GateConfig:
    """What the gate allows; docs/gate.md says how each is used.

    A metric without a margin of its own has `margin`, or with a unit the share `relative_margin` of its reference mean;
    PSNR's is that of the RMS error it stands for.
    `slower` is the factor that the interval of a speed ratio must reach down to, `unsure` the one it must stay below;
    `memory` a share. `device` says what of the device must be the same: its `name`, or only its `type`; a device of the
    type that is another one has margins `other_device` times as wide. `without` names metrics or kinds (speed, memory)
    that are not judged, which the verdict says.
    """

    margin: float = 0.01
    relative_margin: float = 0.05
    margins: dict[str, float] = field(
        default_factory=lambda: {
            **{"Dice": 0.01, "missed": 0.01, "hallucinated": 0.01, "flip_rate": 0.002, "ECE": 0.005, "Brier": 0.005},
            **{f"{metric}/{maps}": 0.005 for metric in ("LPIPS", "PSNR") for maps in ("score", "seg")},
        }
    )
    slower: float = 1.05
    unsure: float = 1.5
    memory: float = 0.05
    device: str = "name"
    other_device: float = 1.0
    without: list[str] = field(default_factory=list)


@dataclass
class Config:
    """The whole configuration; `method`, `dataset` and `protocol` come from the groups of that name."""

    profile_name: str = MISSING
    methods: list[str] = MISSING
    datasets: list[str] = MISSING
    seeds: list[int] = MISSING
    seed: int = 0
    draws: int = MISSING
    image_size: int = MISSING
    architecture: str = MISSING
    autoencoder: str | None = None
    denoiser_weights: str | None = None
    fidelity: str = MISSING
    unet_features: list[int] = MISSING
    diff_unet_features: list[int] = MISSING
    medsegdiff: dict[str, Any] = field(default_factory=dict)
    resnet: dict[str, Any] = field(default_factory=dict)
    efficientnet: dict[str, Any] = field(default_factory=dict)
    swin_unetr: dict[str, Any] = field(default_factory=dict)
    window: list[int] = MISSING
    window_overlap: float = MISSING
    train: TrainConfig = field(default_factory=TrainConfig)
    train_3d: TrainConfig = field(default_factory=TrainConfig)
    # What a family does otherwise than `train`, which is SDSeg's; `train.KEY=` on the command line is for all.
    train_supervised: Any = "${train}"
    train_medsegdiff: Any = "${train}"
    nnunet: dict[str, Any] = field(default_factory=dict)
    measure: MeasureConfig = field(default_factory=MeasureConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    method: dict[str, Any] = field(default_factory=dict)
    dataset: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    metrics: list[str] = field(default_factory=lambda: list(METRICS))
    predict_batch_size: int = 8
    runs_dir: str = "runs"
    device: str = "auto"
    threads: int | None = None


def register_schema() -> None:
    """Make the typed root known to Hydra (idempotent)."""
    ConfigStore.instance().store(name="schema", node=Config)


@contextmanager
def _hydra() -> Iterator[None]:
    # Hydra keeps one global state; a sweep's job composes inside it, so the outer state is put back.
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = outer


def compose_config(overrides: list[str]) -> dict[str, Any]:
    """The resolved configuration of a list of Hydra overrides; raises InputError naming the key."""
    register_schema()
    overrides = quote_overrides(overrides)
    plugins.register(overrides)
    try:
        config = composed(overrides)
        content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise InputError(_one_line(error)) from error
    sections: dict[str, Any] = json.loads(json.dumps(content))
    check_code(sections, overrides)
    check_numbers(sections)
    for group in ("method", "dataset"):
        if CODE_KEYS.issuperset(sections[group].get("code") or ()):
            sections[group].pop("code", None)  # says nothing new of which keys name code
    check_settings(sections)
    return sections


def composed(overrides: list[str]) -> DictConfig:
    """The configuration of overrides that Hydra can read, its interpolations not yet resolved."""
    # Any metric may have a margin, also one without a default.
    given = [f"++{o}" if o.startswith("gate.margins.") else o for o in overrides]
    with _hydra():
        config = compose("config", overrides=given)
    OmegaConf.set_struct(config, False)
    _train_everybody(config, overrides)
    return config


def _train_everybody(config: DictConfig, overrides: list[str]) -> None:
    # `train.KEY` and `recipe` on the command line speak of every method, also of those with a section of their own.
    given = {o.lstrip("+").partition("=")[0] for o in overrides}
    for section in ("train_supervised", "train_medsegdiff", "train_3d"):
        if OmegaConf.is_interpolation(config, section):
            continue
        if "recipe" in given and section != "train_3d":
            config[section] = config["train"]
        for key in (name.removeprefix("train.") for name in given if name.startswith("train.")):
            if f"{section}.{key}" not in given:
                config[section][key] = config["train"][key]


def _one_line(error: Exception) -> str:
    text = str(error).split("Config search path")[0].split("See https")[0].replace("In 'config': ", "")
    if "Missing mandatory value" in text:
        key = text.split("full_key:")[1].split()[0] if "full_key:" in text else text.split()[-1]
        return f"{key} must be given, for example {key}=PATH"
    if isinstance(error, OverrideParseException):
        key, equals, _ = error.override.partition("=")
        remedy = f"quote text twice, \"{key}='TEXT'\"; a list is {key}=[a,b]" if equals else f"give {key}=VALUE"
        return f"{error.override}: Hydra cannot read this; {remedy}"
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if cause is not None and str(cause) not in text:
        text += f": {str(cause).splitlines()[0]}"
    lines = (line.strip() for line in text.splitlines())
    return " ".join(x for x in lines if x and not x.startswith(("object_type", "reference_type", "full_key")))


@dataclass(frozen=True)
class Cell:
    """One (method, dataset, seed) with its resolved configuration."""

    config: dict[str, Any]

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.config["method"]["name"]

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self.config["dataset"]["name"]

    @property
    def seed(self) -> int:
        """Training and sampling seed."""
        return self.config["seed"]

    @property
    def id(self) -> str:
        """Readable name, as pytest shows it."""
        return f"{self.dataset}-{self.method}-seed{self.seed}"


def expand(overrides: list[str]) -> list[Cell]:
    """The cells of `methods` x `datasets` x `seeds`; `method=`, `dataset=` or `seed=` narrows to that one.

    Raises InputError for an unknown name or key before anything runs.
    """
    return [Cell(compose_config(one)) for one in cell_overrides(overrides)]


def cell_overrides(overrides: list[str]) -> list[list[str]]:
    """The overrides of every cell, each with one data set, method and seed."""
    axes = {"dataset": "datasets", "method": "methods", "seed": "seeds"}
    chosen = {key: o.partition("=")[2] for o in overrides for key in axes if o.startswith(f"{key}=")}
    rest = [o for o in overrides if o.split("=")[0] not in axes]
    probe = [f"{key}={value}" for key, value in chosen.items()]
    base = compose_config([*probe, *rest]) if len(chosen) == len(axes) else _matrix(probe, rest)
    values = {key: [chosen[key]] if key in chosen else base[plural] for key, plural in axes.items()}
    for key, row in values.items():
        if not row:
            raise InputError(f"{axes[key]} is empty; name at least one")
    return [
        [f"dataset={d}", f"method={m}", f"seed={s}", *rest]
        for d in dict.fromkeys(values["dataset"])
        for m in dict.fromkeys(values["method"])
        for s in dict.fromkeys(values["seed"])
    ]


def sweep_jobs(overrides: list[str]) -> list[list[str]]:
    """The override lists of a sweep's jobs: one per combination of the comma-separated values."""
    overrides = quote_overrides(overrides, sweep=True)
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise InputError(_one_line(error)) from error
    axes = []
    for override, text in zip(parsed, overrides, strict=True):
        if override.is_sweep_override():
            axes.append([f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()])
        elif not text.startswith("hydra") or text.startswith("hydra.searchpath="):
            axes.append([text])
    return [list(job) for job in itertools.product(*axes)]


def _matrix(probe: list[str], rest: list[str]) -> dict[str, Any]:
    # Keys of a method or dataset may exist only in the group file that the matrix will choose.
    shared = [o for o in rest if not o.lstrip("+~").startswith(("method.", "dataset."))]
    return compose_config([*[p for p in probe if p.startswith("seed=")], *shared])
