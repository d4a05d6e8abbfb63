"""What the gate judges: a run in short, with its values by case and its raw rounds, and a file of such runs."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator

from bench.columns import DECIBEL
from bench.errors import InputError
from bench.files import atomic_path
from bench.metrics.facts import facts_of
from bench.record import ALL_DRAWS, SCORED_FOLDER, Better, RunRecord, Timing
from bench.results.reuse import code_state
from bench.results.store import RunFolder
from bench.scores import case_values

REFERENCE_SCHEMA = 1
REFERENCES = Path(__file__).parents[1] / "references"
_DIGITS = 9
_ROUNDING = 1e-6
_MEMORY_UNIT = "MiB"
# Taken from the record as they are.
_TAKEN = ("dataset", "method", "seed", "profile", "protocol", "draws", "hash", "benchmarks")

Key = tuple[str, str, int]


class Values(BaseModel):
    """One value per case of a metric and a label, the mean over draws; None where it is undefined or infinite.

    `gaps` has the cases of which not every draw has a value, with a word per draw: `v` for a value, `nan`, `inf`,
    `none` without a row.
    """

    model_config = ConfigDict(extra="forbid")

    metric: str
    unit: str
    better: Better
    values: list[FiniteFloat | None]
    gaps: dict[str, str] = {}


class Trajectory(BaseModel):
    """How a short training begins (`trajectory.py`): losses and gradient norms by step, and what it then predicts."""

    model_config = ConfigDict(extra="forbid")

    losses: list[FiniteFloat]
    norms: list[FiniteFloat]
    scores: list[FiniteFloat]
    foreground: FiniteFloat


class RunFacts(BaseModel):
    """What a run is, and everything of it that the gate judges.

    `step_threads` has the thread counts of fit and predict, none where they are unknown; `impossible` a line for every
    metric with a value that it cannot take, and for a file that is not the record's. `code` says whether the method's
    code was the one installed now when the run was fitted, predicted and scored. `predictions` is their hash.
    """

    model_config = ConfigDict(extra="forbid")

    dataset: str
    method: str
    seed: int
    profile: str
    protocol: str
    draws: int
    hash: str
    data: str
    split: str
    scoring: str
    device: dict[str, str]
    threads: int | None
    commit: str | None
    dirty: bool | None
    packages: dict[str, str | None]
    benchmarks: dict[str, str]
    revisions: list[str] = []
    step_threads: dict[str, list[int]] = {}
    impossible: list[str] = []
    code: Literal["", "same", "other", "unknown"] = ""
    predictions: str = ""
    trajectory: Trajectory | None = None
    cases: list[str]
    groups: list[str]
    accuracy: dict[str, Values]
    stability: dict[str, Values]
    speed: dict[str, Timing]
    memory: dict[str, FiniteFloat | None]

    @model_validator(mode="after")
    def _one_value_per_case(self) -> Self:
        for name, values in {**self.accuracy, **self.stability}.items():
            if len(values.values) != len(self.cases):
                raise ValueError(f"{name} has {len(values.values)} values for {len(self.cases)} cases")
        if len(self.groups) != len(self.cases):
            raise ValueError(f"{len(self.groups)} groups for {len(self.cases)} cases")
        return self

    @property
    def of_masks(self) -> bool:
        """Whether it is a run without a model, of which only the scores can be judged: a scored folder."""
        return self.profile == SCORED_FOLDER

    @property
    def again(self) -> str:
        """What makes its results anew."""
        return "score the masks again" if self.of_masks else "run again, or --redo fit"

    @property
    def processor(self) -> str:
        """The device's name, make and instructions, "" where it is not known."""
        return ", ".join(filter(None, self.device.values())) if self.device.get("name") else ""

    @property
    def device_type(self) -> str:
        """Such as `cpu`, "" where the device is not known."""
        return self.device.get("type", "") if self.processor else ""

    @property
    def key(self) -> Key:
        """Dataset, method and seed, which name a run."""
        return self.dataset, self.method, self.seed


class Reference(BaseModel):
    """A committed file of runs that later ones are compared with."""

    model_config = ConfigDict(extra="forbid")

    schema_version: int = REFERENCE_SCHEMA
    profile: str
    runs: list[RunFacts] = Field(min_length=1)
    digest: str = ""  # of all the rest; "" in files of earlier versions

    @property
    def of_masks(self) -> bool:
        """Whether its runs are scored folders."""
        return self.profile == SCORED_FOLDER

    def sealed(self) -> Reference:
        """The same with the digest of its content."""
        content = self.model_dump(mode="json", exclude={"digest"}, exclude_defaults=True)
        text = json.dumps(content, sort_keys=True, allow_nan=False)
        return self.model_copy(update={"digest": hashlib.sha256(text.encode()).hexdigest()})


def key_name(key: Key) -> str:
    """A run's name as pytest shows it."""
    dataset, method, seed = key
    return f"{dataset}-{method}-seed{seed}"


def reference_path(profile: str, device: str) -> Path:
    """Where the reference of a profile and a type of device is committed."""
    return REFERENCES / f"{profile}-{device}.json"


def read_reference(path: Path) -> Reference:
    """Read a reference; raises InputError that names the file and its first fault."""
    try:
        content = Reference.model_validate_json(path.read_bytes())
    except OSError as error:
        reason = f"{path}: cannot be read ({error.strerror}); make one with sdseg gate --promote --out {path}"
        raise InputError(reason) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{path}: not a reference ({where}: {first['msg']}); make one with --promote") from error
    if content.schema_version != REFERENCE_SCHEMA:
        raise InputError(f"{path}: schema {content.schema_version}, expected {REFERENCE_SCHEMA}; promote again")
    if content.digest and content.sealed().digest != content.digest:
        raise InputError(f"{path}: was changed after it was written (its digest is another); promote again")
    keys = [run.key for run in content.runs]
    if len(set(keys)) < len(keys):
        raise InputError(f"{path}: holds a run twice; promote again")
    return content


def write_reference(path: Path, reference: Reference) -> None:
    """Write a reference atomically as strict JSON, a list of numbers on one line."""
    text = json.dumps(json.loads(reference.sealed().model_dump_json()), indent=1, allow_nan=False)
    with atomic_path(path) as part:
        part.write_text(
            re.sub(r"\[[^\[\]{}]*\]", lambda row: re.sub(r"\n\s*", "", row[0]), text) + "\n", encoding="utf-8"
        )


def run_facts(path: Path) -> RunFacts:
    """What the gate sees of a run folder; raises InputError where its record or its scores cannot be read."""
    folder = RunFolder(path)
    record, scores = folder.read_record(), folder.read_scores()
    git, device = record.environment.get("git") or {}, record.environment.get("device") or {}
    cases = scores.drop_duplicates("case").sort_values("case")
    names = cases["case"].astype(str).tolist()
    over_draws = scores["draw"] == ALL_DRAWS
    taken: dict[str, Any] = {name: getattr(record, name) for name in _TAKEN}
    taken |= {name: record.data.get(name, "") for name in ("data", "split", "scoring")}
    return RunFacts(
        **taken,
        device={name: str(device.get(name, "")) for name in ("type", "name", "version")},
        threads=(record.environment.get("torch") or {}).get("threads"),
        commit=git.get("commit"),
        dirty=git.get("dirty"),
        packages=record.environment.get("packages") or {},
        revisions=folder.revisions(),
        step_threads={step: counts for step, counts in folder.threads().items() if counts},
        impossible=[*_impossible(scores), *_exchanged(folder, record)],
        predictions=record.files.get("predictions", ""),
        code=code_state(record),
        cases=names,
        groups=cases["group"].astype(str).tolist(),
        accuracy=_values(scores[~over_draws], names, record, list(range(record.draws))),
        stability=_values(scores[over_draws], names, record, [ALL_DRAWS]),
        speed=record.timings,
        memory={s.metric: s.value if math.isfinite(s.value) else None for s in record.scores if s.unit == _MEMORY_UNIT},
    )


def _impossible(scores: pd.DataFrame) -> list[str]:
    lines = []
    for metric, rows in scores.groupby("metric", sort=False):
        low, high = (facts := facts_of(str(metric))).low, facts.high
        wrong = rows[(rows["value"] < low - _ROUNDING) | (rows["value"] > high + _ROUNDING)]
        if len(wrong):
            first = wrong.iloc[0]
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            lines.append(
                f"impossible value: {metric} of {first['case']} is {first['value']:g}{more}, "
                f"not within [{low:g}, {high:g}]"
            )
    return lines


def _exchanged(folder: RunFolder, record: RunRecord) -> list[str]:
    """A line where the predictions are not those that were scored; they may be gone."""
    said = record.files.get("predictions")
    if not said or not (folder.path / "predictions").exists() or folder.predictions_digest(record.draws) == said:
        return []
    return [f"{folder.path / 'predictions'}: not the predictions that were scored; score them again"]


def _values(scores: pd.DataFrame, cases: list[str], record: RunRecord, draws: list[int]) -> dict[str, Values]:
    by_name: dict[str, Values] = {}
    for (metric, convention, label), rows in scores.groupby(["metric", "convention", "label"], sort=False):
        facts, name = facts_of(str(metric)), str(metric)
        unit, better = facts.unit, facts.better
        by_case = case_values(rows, facts).values.reindex(cases)
        gaps = _gaps(rows, cases, draws, infinite="v" if unit == DECIBEL else "inf")
        if unit == DECIBEL:
            # Identical draws have an infinite PSNR and an error of 0, which a paired test can take.
            unit, better, name, by_case = "", "lower", f"{metric} as RMS error", np.sqrt(by_case)
        # The protocol's own convention needs no word.
        words = [
            name,
            str(label) if len(record.labels) > 1 else "",
            f"({convention})" if convention != "strict" else "",
        ]
        values = [_plain(value) for value in by_case]
        judged = Values(metric=str(metric), unit=unit, better=better, values=values, gaps=gaps)
        by_name[" ".join(filter(None, words))] = judged
    return by_name


def _gaps(rows: pd.DataFrame, cases: list[str], draws: list[int], infinite: str) -> dict[str, str]:
    """`Values.gaps`; a mean over draws would hide that one of them is undefined, missing or there twice."""
    words = np.where(rows["value"].isna(), "nan", np.where(np.isinf(rows["value"]), infinite, "v"))
    words_by_case = {case: dict.fromkeys(draws, "none") for case in cases}
    for case, draw, word in zip(rows["case"].astype(str), rows["draw"], words, strict=True):
        before = words_by_case[case].get(int(draw), "none")
        words_by_case[case][int(draw)] = str(word) if before == "none" else f"{before}+{word}"
    whole = dict.fromkeys(draws, "v")
    return {case: " ".join(by_draw.values()) for case, by_draw in words_by_case.items() if by_draw != whole}


def _plain(value: Any) -> float | None:
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None
