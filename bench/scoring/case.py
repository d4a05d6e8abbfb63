"""One stored case to score rows and to its values under every protocol, kept so that a kill loses no other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from bench.device import resolve
from bench.errors import InputError
from bench.files import atomic_path
from bench.metrics.lpips_distance import Lpips
from bench.metrics.stability import MASK_STABILITY
from bench.notes import Notes, heard
from bench.protocols import STRICT, Protocol, build_protocol
from bench.protocols.gap import GapValue, pair_values, plan
from bench.protocols.stability import protocol_stability
from bench.record import ALL_DRAWS, REASON, SCORE_COLUMNS
from bench.results.stored import StoredCase
from bench.scores import mean_defined

Rows = list[dict[str, Any]]


class CaseValues(NamedTuple):
    """Score rows of a case, and what every protocol says of it (nothing unless it was asked for)."""

    rows: Rows
    gap: list[GapValue]


class CaseScores(NamedTuple):
    """A scored case: its values, the sha256 of its reference and of its predictions, its spacing and axes.

    `notes` were heard, and `learnt` was learnt, as it was read.
    """

    values: CaseValues
    reference: str
    predictions: str
    spacing_mm: tuple[float, ...] | None
    dims: int
    notes: Notes
    learnt: Any


class CaseSource:
    """Where stored cases are read, in this process and, pickled, in others."""

    def read(self, case_id: str) -> StoredCase:
        """A case; InputError naming a file that is wrong."""
        raise NotImplementedError

    def learnt(self, case_id: str) -> Any:
        """What reading this case has told about all of them, to be sent to another process."""

    def learn(self, case_id: str, learnt: Any) -> None:
        """Take what another process has learnt from a case; the same again changes nothing."""


@dataclass(frozen=True)
class CaseScorer:
    """Scores cases by their ids, with the keys of a configuration that `cases.settings` names.

    What a case has is kept in `scratch` by all that it depends on: its content, and `fixed`.
    """

    source: CaseSource
    labels: tuple[str, ...]
    config: dict[str, Any]
    scratch: Path
    lpips: Lpips | None
    conventions: bool
    fixed: tuple[Any, ...]

    def __call__(self, case_id: str) -> CaseScores:
        """Read a case, and score it unless that is kept."""
        with heard() as notes:
            stored = self.source.read(case_id)
        reference, predictions = stored.reference_digest(), stored.predictions_digest()
        key = hashlib.sha256(repr((reference, predictions, stored.group, *self.fixed)).encode()).hexdigest()
        rows, gap = _kept(self.scratch / f"{key}.json", lambda: self._score(stored))
        values = CaseValues(rows, [GapValue._make(value) for value in gap])
        of_case = stored.spacing_mm, len(stored.shape) - 2, notes, self.source.learnt(case_id)
        return CaseScores(values, reference, predictions, *of_case)

    def _score(self, stored: StoredCase) -> CaseValues:
        config = self.config
        protocol, device = build_protocol(**config["protocol"]), resolve(config["device"])
        size = config["image_size"] if self.conventions else None
        try:
            return score_case(stored, self.labels, config["metrics"], self.lpips, protocol, device, size)
        except InputError as error:
            raise InputError(f"case {stored.id}: {error}") from error


def score_case(
    stored: StoredCase,
    labels: tuple[str, ...],
    metrics: list[str],
    lpips: Lpips | None,
    protocol: Protocol = STRICT,
    device: str = "cpu",
    size: int | None = None,
) -> CaseValues:
    """Score rows of one case: every metric per draw and label, and the agreement over draws.

    Undefined values are NaN and stay rows, with their reason. A metric that the protocol has no rule for is the strict
    one, and its row says so; where the protocol scores slices, the row is the mean of those defined. With `size`, the
    in-plane one of protocols that score at their network's, the same masks are scored under every protocol too.
    Draws are compared on `device`. One label after another: its maps alone are in memory.
    """
    chosen, planned = protocol.select(metrics), plan(size) if size else []
    own: Rows = []
    images: Rows = []
    masks: Rows = []
    gap: list[GapValue] = []

    def row(label: int, draw: int, metric: str, convention: str, value: float) -> dict[str, Any]:
        of = (stored.id, stored.group, labels[label], draw, metric, convention, value)
        return dict(zip(SCORE_COLUMNS, of, strict=True)) | {REASON: getattr(value, "reason", "")}

    for draw, label, pair in stored.pairs():
        for metric, values in zip(chosen, protocol.values(pair, chosen), strict=True):
            own.append(row(label, draw, metric.name, metric.convention, mean_defined(values)))
        gap += pair_values(pair, planned, stored.id, label, draw)
        if draw == stored.shape[0] - 1:
            for name, convention, value in _agreement(stored, label, lpips, protocol, device):
                rows = masks if name in MASK_STABILITY else images
                rows.append(row(label, ALL_DRAWS, name, convention, value))
    # The labels of a draw together.
    own.sort(key=lambda values: values["draw"])
    gap.sort(key=lambda value: value.draw)
    return CaseValues([*own, *images, *masks], gap)


def _agreement(
    stored: StoredCase, label: int, lpips: Lpips | None, protocol: Protocol, device: str
) -> list[tuple[str, str, float]]:
    """Metric, convention and value of the agreement of all draws on one label; nothing of a single draw."""
    draws, _, *space = stored.shape
    if draws < 2:
        return []
    masks = np.stack([stored.mask(draw, label) for draw in range(draws)])[:, None]
    scores = None
    if stored.scores is not None:
        scores = np.stack([stored.score(draw, label) for draw in range(draws)])[:, None]
    rows, size = [], int(np.prod(space))
    agreement = protocol_stability(protocol, stored.reference[label][None], scores, masks, lpips, device)
    for _, name, convention, value in agreement:
        # The only share of elements among them: of those that count.
        if name == "flip_rate" and 0 < stored.n_ignored < size:
            value *= size / (size - stored.n_ignored)
        rows.append((name, convention, value))
    return rows


def _kept(path: Path, score: Callable[[], Any]) -> Any:
    """What is kept at `path`, or else what `score` returns, which is then kept there for this program alone."""
    if not path.exists():
        text = json.dumps(score())  # with NaN and Infinity, which strict JSON has not
        with atomic_path(path) as part:
            part.write_text(text, encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))
