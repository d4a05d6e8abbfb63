"""What `score-folder` reads: references, anybody's masks, their soft scores and the groups of the cases, all paired."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench import progress
from bench.datasets.formats import LOSSY, affine_of, decode, format_suffix
from bench.datasets.splitting import read_groups
from bench.errors import InputError
from bench.images import find_files, present_ids, read_label_map, read_mask, read_score, same_orientation
from bench.stored import StoredCase
from bench.types import Case

_BINARY = {1, 255, 65535}
_FAINTEST = 1 / 255  # what the 1 of a mask saved as 0 and 1 becomes when it is read as a score


@dataclass(frozen=True)
class FolderInputs:
    """Files by stem: of the references, and of masks and scores one mapping per draw; `groups` by stem.

    `ids` says which value each label of `labels` has, None for binary masks. `known` and `unscored` fill up with the
    ids that the predictions read so far hold: those of a label, and others.
    """

    references: dict[str, Path]
    labels: tuple[str, ...]
    ids: dict[str, int] | None
    draws: list[dict[str, Path]]
    scores: list[dict[str, Path]]
    groups: Mapping[str, str]
    known: set[int] = field(default_factory=set)
    unscored: set[int] = field(default_factory=set)

    def read(self, stem: str) -> StoredCase:
        """One case whole; raises InputError naming a file that does not fit its reference."""
        path = self.references[stem]
        reference = read_mask(path, self.ids)
        image = np.broadcast_to(np.float32(0), (1, *reference.shape[1:]))
        spacing = decode(path, indexed=True).spacing_mm if affine_of(path) is not None else None
        case = Case(stem, self.groups[stem], image, reference, spacing)
        masks = [self._mask(draw[stem]) for draw in self.draws]
        scores = [self._score(draw[stem], mask) for draw, mask in zip(self.scores, masks, strict=False)]
        files = [draw[stem] for draw in (*self.draws, *self.scores)]
        for file, found in zip(files, (*masks, *scores), strict=True):
            _check_grid(file, found, path, reference)
        return StoredCase(case, np.stack(masks), np.stack(scores) if scores else None)

    def check_ids(self) -> None:
        """InputError unless a prediction held one of the references' ids, once all are read."""
        if self.unscored and not self.known:
            where = next(iter(self.draws[0].values())).parent
            ids = f"the ids {sorted(self.unscored)}, references {sorted((self.ids or {}).values())}"
            raise InputError(f"{where}: predictions hold {ids}; use the same label ids")

    def _mask(self, path: Path) -> np.ndarray:
        if self.ids is None:
            return read_mask(path)
        if format_suffix(path) in LOSSY:
            raise InputError(f"{path}: a lossy format cannot hold label ids; use PNG, TIFF or NIfTI")
        plane = read_label_map(path)
        present, wanted = set(present_ids(plane)), set(self.ids.values())
        self.known.update(present & wanted)
        self.unscored.update(present - wanted)
        return np.stack([plane == number for number in self.ids.values()])

    def _score(self, path: Path, mask: np.ndarray) -> np.ndarray:
        score = read_score(path, len(self.labels))
        if mask.any() and score.max() <= _FAINTEST:
            raise InputError(f"{path}: no score above 1/255 although its mask is not empty; integers span 0..255")
        return score


def open_folders(
    pred: Path, ref: Path, scores: Path | None = None, groups: Path | None = None, group_regex: str | None = None
) -> FolderInputs:
    """Pair the files of the folders by stem, and read the references once for their labels.

    `pred` and `scores` hold files or sub-folders `draw-*`, the same in both. Raises InputError for missing or extra
    files, another number of draws, unreadable references, and cases without a group.
    """
    references, draws = find_files(ref), _draws(pred)
    if not references:
        raise InputError(f"{ref}: holds no reference mask; give PNG, TIFF, NPY or NIfTI files")
    _check_stems(ref, references, draws, "prediction")
    soft = {} if scores is None else _draws(scores)
    if scores is not None and list(soft) != list(draws):
        ours, theirs = (", ".join(found) if "" not in found else "no draw-* folders" for found in (soft, draws))
        raise InputError(f"{scores}: has {ours}, but {pred} has {theirs}; give scores of the same draws")
    _check_stems(ref, references, soft, "score")
    group_of = read_groups(references, groups, group_regex)
    labels, ids = _read_labels(references)
    return FolderInputs(references, labels, ids, list(draws.values()), list(soft.values()), group_of)


def _draws(folder: Path) -> dict[str, dict[str, Path]]:
    """Files by stem, one mapping per draw, by the draw's folder; one without a name where there are none."""
    loose = find_files(folder)
    repeated = sorted(path for path in folder.glob("draw-*") if path.is_dir())
    if repeated and loose:
        raise InputError(f"{folder}: holds both files and draw-* folders; keep one of the two")
    return {path.name: find_files(path) for path in repeated} or {"": loose}


def _check_stems(ref: Path, files: Mapping[str, Path], draws: Mapping[str, dict[str, Path]], what: str) -> None:
    for name, draw in draws.items():
        where = f" in {name}" if name else ""
        missing, extra = sorted(set(files) - set(draw)), sorted(set(draw) - set(files))
        if missing:
            raise InputError(f"{files[missing[0]]}: no {what}{where} for this reference{_more(missing)}; add it")
        if extra:
            raise InputError(f"{draw[extra[0]]}: no reference of that stem in {ref}{_more(extra)}; remove or rename it")


def _more(names: list[str]) -> str:
    return f" (and {len(names) - 1} more)" if len(names) > 1 else ""


def _read_labels(files: Mapping[str, Path]) -> tuple[tuple[str, ...], dict[str, int] | None]:
    """Names of the labels, and their ids; without ids where the references are binary masks."""
    found: set[int] = set()
    most = 0
    for done, path in enumerate(files.values(), 1):
        ids = present_ids(read_label_map(path))
        found |= set(ids)
        most = max(most, len(ids))
        progress.report("reading references", done, len(files))
    if len(found) <= 1 or (most == 1 and found <= _BINARY):
        return ("foreground",), None
    names = {str(number): number for number in sorted(found)}
    return tuple(names), names


def _check_grid(path: Path, found: np.ndarray, reference_path: Path, reference: np.ndarray) -> None:
    if found.shape != reference.shape:
        sizes = (" x ".join(map(str, array.shape[1:])) for array in (found, reference))
        raise InputError("{}: size {}, but the reference has {}; save it at that size".format(path, *sizes))
    if not same_orientation(affine_of(path), affine_of(reference_path)):
        raise InputError(f"{path}: runs along other axes than its reference; save it on the reference's grid")
