"""What a run leaves behind: score rows and the run record. Imports no torch, so that reports need none."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pyarrow.parquet import ParquetFile
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from bench.errors import InputError
from bench.files import sha256_of

SCHEMA_VERSION = 1

SCORE_COLUMNS = ["case", "group", "label", "draw", "metric", "convention", "value"]
WORD_COLUMNS = ["case", "group", "label", "metric", "convention"]
REASON = "reason"  # a further column: why a value is undefined, "" where it is not or where nobody said
_SHARES = ("Dice", "IoU", "Sensitivity", "Precision", "NSD", "ECE", "Brier")
SCORED_FOLDER = "score-folder"  # the profile of a run without a model: masks that `score-folder` was given
ALL_DRAWS = -1  # `draw` of a row that speaks of all draws together

# Keys of the configuration that older runs do not have, by section, with the value at which they change nothing.
_OPTIONS = {
    "resample": False,
    "mask": "auto",
    "ignore": None,
    "background": 0,
    "suffix": None,
    "mask_suffix": None,
    "objective": "dice_bce",
    "input_size": None,
    "normalise": "none",
    "control": None,
    "schedule": None,
    "prediction": None,  # where there is a default to be left; SDSeg always says which
    "late_times": 0.0,
    "detach_anchors": True,
    "highway_share": 4,
}
CAME_LATER: dict[str, dict[str, Any]] = {
    "options": _OPTIONS,
    "dataset": _OPTIONS,
    "recipe": {"optimizer": "adamw", "momentum": 0.9},
    "inference": {"backend": "auto", "recheck": None},
}


def came_later(section: str, key: str, value: Any) -> bool:
    """Whether a run without this key was made as with this value: names of runs and rows of tables leave it out."""
    later = CAME_LATER.get(section, {})
    return key in later and value == later[key]


def spreadsheet_text(value: Any) -> Any:
    """A cell of a CSV file: text that a spreadsheet would take for a formula begins with an apostrophe."""
    return f"'{value}" if _is_formula(value) else value


def plain_text(cell: str) -> str:
    """The text that `spreadsheet_text` wrote as this cell."""
    return cell[1:] if cell.startswith("'") and _is_formula(cell[1:]) else cell


def _is_formula(value: Any) -> bool:
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False


class BadRecordError(InputError):
    """A record on disk that cannot be read."""


# Strict JSON has no NaN and no infinity: null on disk.
_PLAIN = PlainSerializer(lambda v: v if math.isfinite(v) else None)
Value = Annotated[float, BeforeValidator(lambda v: math.nan if v is None else v), _PLAIN]


class Undefined(float):
    """A value that does not exist: NaN with the reason."""

    reason: str

    def __new__(cls, reason: str) -> Undefined:
        """The reason in a few words, for a table."""
        value = super().__new__(cls, math.nan)
        value.reason = reason
        return value


Better = Literal["higher", "lower", "none"]
Kind = Literal["share", "distance", "volume", "count", "score"]


class MetricFacts(BaseModel):
    """What a metric is beside its name.

    `kind`: a share (in [0, 1]), a distance, a volume, a count (told as a sum over cases), or any other score.
    `low` and `high` bound its values, `tolerance` is a distance in its unit of length, `note` what a reader
    must know beside the name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    unit: str = ""
    better: Better = "none"
    kind: Kind = "score"
    low: Annotated[float, BeforeValidator(lambda v: -math.inf if v is None else v), _PLAIN] = -math.inf
    high: Annotated[float, BeforeValidator(lambda v: math.inf if v is None else v), _PLAIN] = math.inf
    tolerance: float | None = None
    note: str = ""


class Score(BaseModel):
    """One measured number of a whole run, with its unit, direction and convention."""

    model_config = ConfigDict(extra="forbid")

    metric: str
    value: Value
    unit: str = ""
    better: Better = "none"
    convention: str = "strict"
    note: str = ""


class Timing(BaseModel):
    """Seconds of every timed call, and of the reference workload right before each, on the same device."""

    model_config = ConfigDict(extra="forbid")

    seconds: list[float]
    workload: list[float]
    workload_name: str


class RunRecord(BaseModel):
    """Everything the numbers of one run depend on, and the numbers of the run as a whole."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    method: str
    dataset: str
    seed: int
    hash: str
    profile: str
    protocol: str
    fidelity: str = "external"
    config: dict[str, Any]
    labels: list[str]
    dims: int
    draws: int
    n_cases: dict[str, int]
    data: dict[str, str]
    metrics: dict[str, MetricFacts] = Field(default_factory=dict)
    files: dict[str, str] = Field(default_factory=dict)  # sha256 of the tables, and of all predictions together
    environment: dict[str, Any]
    pretrained: str = ""
    code: dict[str, Any] = Field(default_factory=dict)  # days and hashes of the code of every step
    fit: dict[str, Any] = Field(default_factory=dict)
    inference: dict[str, Any] = Field(default_factory=dict)  # as it was done: precision of each part and the like
    notes: list[str] = Field(default_factory=list)
    scores: list[Score] = Field(default_factory=list)
    timings: dict[str, Timing] = Field(default_factory=dict)  # raw rounds, for the gate
    benchmarks: dict[str, str] = Field(default_factory=dict)  # passed, failed or skipped, by the name of the test

    def score(self, metric: str) -> float:
        """The value of a run-level score, NaN where it was not measured."""
        return next((s.value for s in self.scores if s.metric == metric), math.nan)

    @property
    def rules(self) -> str:
        """The protocol by name, with its settings where it has some: what scores must share to be compared."""
        settings = {key: value for key, value in (self.config.get("protocol") or {}).items() if key != "name"}
        inside = ", ".join(f"{key} {value}" for key, value in sorted(settings.items()))
        return f"{self.protocol} ({inside})" if inside else self.protocol

    def with_scores(self, new: list[Score]) -> RunRecord:
        """A copy in which `new` replaces scores of the same name."""
        names = {s.metric for s in new}
        return self.model_copy(update={"scores": [s for s in self.scores if s.metric not in names] + new})


def read_record(path: Path) -> RunRecord:
    """Read `record.json`; raises BadRecordError naming the file."""
    try:
        record = RunRecord.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        reason = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise BadRecordError(f"{path}: not a run record ({reason}); delete it and score again") from error
    except OSError as error:
        if path.with_name("summary.json").is_file():
            raise BadRecordError(f"{path.parent}: scored by an earlier version; score the masks again") from error
        raise BadRecordError(f"{path}: cannot be read ({error.strerror})") from error
    if record.schema_version != SCHEMA_VERSION:
        raise BadRecordError(f"{path}: schema {record.schema_version}, expected {SCHEMA_VERSION}; score again")
    return record if record.metrics else record.model_copy(update={"metrics": _facts_in_words(record)})


def _facts_in_words(record: RunRecord) -> dict[str, MetricFacts]:
    """The facts of metrics in a record of before `metrics`, which said unit and note in words and the rest nowhere."""
    facts = {f"PSNR/{maps}": MetricFacts(unit="dB", better="higher", low=0) for maps in ("seg", "score")}
    facts |= {name: MetricFacts(kind="share", low=0, high=1) for name in ("Dice/pairs", "flip_rate")}
    for name in record.config.get("metrics") or ():
        unit, _, note = record.data.get(f"metric {name}", "").partition("; ")
        if unit not in ("", "mm", "px", "ml", "mm2", "cases") and f"better {name}" not in record.data:
            unit, note = "", unit
        kind = "count" if unit == "cases" else "share" if name.partition("@")[0] in _SHARES else "score"
        low = -math.inf if name == "VolumeBias" or f"better {name}" in record.data else 0.0
        better = record.data.get(f"better {name}", "higher" if name.startswith("NSD") else "none")
        facts[name] = MetricFacts.model_validate(
            {
                "unit": unit,
                "better": better,
                "kind": kind,
                "low": low,
                "note": note,
                "high": None if kind == "score" else 1,
            }
        )
    return facts


def check_table(path: Path, record: RunRecord) -> None:
    """BadRecordError naming a table beside a record that is not the one the record speaks of."""
    sealed = record.files.get(path.name)
    if sealed is not None and path.is_file() and sealed != sha256_of(path):
        raise BadRecordError(f"{path}: damaged, or not the table of its record.json; score again")


def read_scores(path: Path, record: RunRecord | None = None, categories: bool = False) -> pd.DataFrame:
    """Read `scores.parquet` with the columns of SCORE_COLUMNS, words as categories where asked for.

    Raises BadRecordError naming the file, with `record` also where the table is not that record's.
    """
    if record is not None:
        check_table(path, record)
    try:
        with ParquetFile(path, read_dictionary=WORD_COLUMNS if categories else None) as file:
            frame = file.read(use_threads=False).to_pandas()  # a small file, several times faster than read_parquet
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadRecordError(f"{path}: not a table of scores ({reason}); score again") from error
    missing = [c for c in SCORE_COLUMNS if c not in frame]
    if missing:
        raise BadRecordError(f"{path}: columns missing: {', '.join(missing)}; score again")
    return frame[[*SCORE_COLUMNS, REASON] if REASON in frame else SCORE_COLUMNS]


def categories(words: pd.Series) -> pd.Categorical:
    """Sorted categories, one object for all runs that have the same."""
    if words.isna().any():
        raise ValueError(f"rows without {words.name}")
    if not isinstance(words.dtype, pd.CategoricalDtype):
        words = words.astype(str).astype("category")
    names = words.cat.categories.astype(str).to_numpy(dtype=object)
    order = np.argsort(names)
    codes = np.empty(len(names), dtype=np.int32)
    codes[order] = np.arange(len(names))
    return pd.Categorical.from_codes(codes[words.cat.codes], dtype=_dtype(tuple(names[order])))


@lru_cache(maxsize=256)
def _dtype(names: tuple[str, ...]) -> pd.CategoricalDtype:
    # Plain objects: looked up many thousands of times, for which strings of Arrow are slow.
    return pd.CategoricalDtype(pd.Index(names, dtype=object))
