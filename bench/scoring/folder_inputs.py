"""What `score-folder` reads: references, anybody's masks, their soft scores and the groups of the cases, all paired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bench.datasets.formats import decode
from bench.datasets.grids import Onto
from bench.datasets.images import read_score
from bench.datasets.masks import Declared, MaskFiles
from bench.datasets.masks.declared import COLOUR, declared, show
from bench.datasets.masks.levels import Levels
from bench.datasets.masks.predictions import prediction_masks
from bench.datasets.masks.rule import LabelMasks
from bench.datasets.pairing import check_stems, find_draws, find_files
from bench.datasets.splitting import read_groups
from bench.errors import InputError
from bench.results.stored import StoredCase
from bench.scoring.case import CaseSource

_FAINTEST = 1 / 255  # what the 1 of a mask saved as 0 and 1 becomes when it is read as a score


@dataclass(frozen=True)
class Reading:
    """How the files of both sides are read and paired.

    `mask`, `labels`, `ignore` and `background` state what masks mean (`datasets.masks.declared`), `pred_labels` where
    predictions have other values. Nothing stated, references are binary ("foreground") or label maps (one label per
    value they hold). `resample` brings predictions on another grid to their references' (masks by nearest neighbour,
    scores linearly), which the notes say. Stems are compared without `pred_suffix` and `ref_suffix`. With `subset`
    references that have no prediction are left out, which the summary counts.
    """

    mask: str = "auto"
    labels: Any = None
    pred_labels: Any = None
    ignore: Any = None
    background: Any = 0
    resample: bool = False
    pred_suffix: str = ""
    ref_suffix: str = ""
    subset: bool = False

    @cached_property
    def references(self) -> Declared:
        """What is stated about the references' masks."""
        return declared(self.mask, self.labels, self.ignore, self.background)

    @cached_property
    def predictions(self) -> Declared:
        """What is stated about the predictions'."""
        return declared(self.mask, self.pred_labels, None, 0 if self.pred_labels else self.background)


@dataclass(frozen=True)
class FolderInputs(CaseSource):
    """Files by stem: of the references, and of masks and scores one mapping per draw; `groups` by stem.

    `reference_masks` and `predicted_masks` know how the masks of either side are read. `resample` is for predictions
    on other grids than their references; `left_out` counts references that have no prediction.
    """

    references: dict[str, Path]
    labels: tuple[str, ...]
    reference_masks: MaskFiles
    predicted_masks: MaskFiles
    draws: list[dict[str, Path]]
    scores: list[dict[str, Path]]
    groups: Mapping[str, str]
    resample: bool = False
    left_out: int = 0

    def read(self, stem: str) -> StoredCase:
        """One case whole; raises InputError naming a file that does not fit its reference."""
        path = self.references[stem]
        picture = decode(path, indexed=True)
        reference, ignored = self.reference_masks.read(path, picture)
        onto = Onto(picture.grid._replace(shape=reference.shape[1:]), resample=self.resample)
        masks = [self.predicted_masks.read_onto(draw[stem], onto)[0] for draw in self.draws]
        scores = [self._score(draw[stem], mask, onto) for draw, mask in zip(self.scores, masks, strict=False)]
        return StoredCase(stem, self.groups[stem], reference, masks, scores or None, picture.spacing_mm, ignored)

    def learnt(self, stem: str) -> list[Levels]:
        """The values that its files hold."""
        return [masks.seen(path) for masks, path in self._masks_of(stem)]

    def learn(self, stem: str, learnt: list[Levels]) -> None:
        """Take these from another process."""
        for (masks, path), levels in zip(self._masks_of(stem), learnt, strict=True):
            masks.note(path, levels)

    def _masks_of(self, stem: str) -> list[tuple[MaskFiles, Path]]:
        predicted = [(self.predicted_masks, draw[stem]) for draw in self.draws]
        return [(self.reference_masks, self.references[stem]), *predicted]

    def facts(self) -> dict[str, Any]:
        """How the masks of both sides were read, for the summary, with values of the predictions that are no label's.

        Colours as text.
        """
        strangers = [value if value < COLOUR else show(value) for value in self.predicted_masks.strangers()]
        masks = {"references": self.reference_masks.facts(), "predictions": self.predicted_masks.facts()}
        left_out = {"references_left_out": self.left_out} if self.left_out else {}
        return {**left_out, "masks": masks, "ids_without_reference": strangers}

    def notes(self) -> list[str]:
        """What a reader must know of the pairing, and of references that `--ignore` left empty."""
        total = len(self.references) + self.left_out
        lines = [f"{self.left_out} of {total} references have no prediction and are left out"] if self.left_out else []
        if self.reference_masks.emptied():
            option = self.reference_masks.declared
            assert option.ignore is not None
            lines.append(
                f"every reference is empty after {option.named('ignore')}{show(option.ignore)}: is it a label?"
            )
        return lines

    def _score(self, path: Path, masks: LabelMasks, onto: Onto) -> np.ndarray:
        score = read_score(path, len(self.labels), onto)
        if score.max() <= _FAINTEST and any(masks[label].any() for label in range(len(self.labels))):
            raise InputError(f"{path}: no score above 1/255 although its mask is not empty; integers span 0..255")
        return score


def open_folders(
    pred: Path,
    ref: Path,
    how: Reading,
    *,
    scores: Path | None = None,
    groups: Path | None = None,
    group_regex: str | None = None,
) -> FolderInputs:
    """Pair the files of the folders by stem; where nothing names the labels, all references are read for them.

    `pred` and `scores` hold files or sub-folders `draw-*`, the same in both. Raises InputError for missing or extra
    files, another number of draws, unreadable references, and cases without a group.
    """
    references, draws = find_files(ref, how.ref_suffix), find_draws(pred, how.pred_suffix)
    if not references:
        raise InputError(f"{ref}: holds no reference mask; give PNG, TIFF, NPY or NIfTI files")
    check_stems(ref, references, draws, "prediction", subset=how.subset)
    soft = {} if scores is None else find_draws(scores, how.pred_suffix)
    if scores is not None and list(soft) != list(draws):
        ours, theirs = (", ".join(x) if "" not in x else "no draw-* folders" for x in (soft, draws))
        raise InputError(f"{scores}: has {ours}, but {pred} has {theirs}; give scores of the same draws")
    total = len(references)
    references = {stem: path for stem, path in references.items() if all(stem in draw for draw in draws.values())}
    if not references:
        raise InputError(f"{pred}: holds no prediction for any reference of {ref}; give files of the same stems")
    check_stems(ref, references, soft, "score")
    group_of = read_groups(references, groups, group_regex)
    reading = MaskFiles(ref, list(references.values()), how.references)
    labels, values = _labels(reading)
    files = [path for draw in draws.values() for path in draw.values()]
    answers = prediction_masks(pred, files, labels, values, how.predictions)
    kinds = (list(draws.values()), list(soft.values()))
    return FolderInputs(references, labels, reading, answers, *kinds, group_of, how.resample, total - len(references))


def _labels(reading: MaskFiles) -> tuple[tuple[str, ...], dict[str, tuple[int, ...]] | None]:
    """Names of the labels and their values; without values where the references are binary masks."""
    stated = reading.declared
    if stated.labels is not None and stated.mask != "binary":  # no need to look
        return tuple(stated.labels), dict(stated.labels)
    rule = reading.rule
    return rule.labels, None if rule.values is None else dict(zip(rule.labels, rule.values, strict=True))
