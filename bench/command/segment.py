"""Masks for a folder of images, or of volumes, with a trained run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench import progress
from bench.datasets import images
from bench.datasets.formats import NIFTI, decode, format_suffix
from bench.datasets.grids import as_stored
from bench.datasets.intensity import check_range, ranges_of_run
from bench.datasets.masks.declared import LARGEST
from bench.datasets.nifti import write_nifti
from bench.datasets.pairing import find_files
from bench.errors import InputError
from bench.predicting import predict_cases
from bench.results.outputs import OutputFolder, check_apart
from bench.results.store import RunFolder
from bench.runner import load_segmenter, set_up_torch
from bench.types import Case, TaskSpec


def segment_folder(
    source: Path, run: Path, out: Path, trust: bool = False, overrides: Sequence[str] = ()
) -> list[Path]:
    """Write one mask per image of `source` (a folder or a file) to `out`; returns the files.

    Images give PNG (0 and 255, or label ids where the run has several labels) in the view that is displayed, NIfTI
    volumes give NIfTI in the file's own order and affine, whatever order the network sees. A case named as in the
    run's dataset gets the noise it had there, so the same mask. Raises InputError naming the file, before anything is
    written where a mask would replace what is not one of an earlier call.
    """
    folder = RunFolder(run)
    config = folder.read_config(trust, overrides)
    task = TaskSpec.of(config["task"])
    files = find_files(source) if source.is_dir() else _single(source)
    if not files:
        raise InputError(f"{source}: no images; expected PNG, JPEG, TIFF, BMP, NPY or NIfTI files")
    if folder.fit_facts() is None:
        raise InputError(f"{folder.model}: not fitted yet; use sdseg fit first")
    targets = {case_id: f"{case_id}{'.nii.gz' if task.dims == 3 else '.png'}" for case_id in files}
    check_apart(out, source)
    output = OutputFolder(out)
    output.check(targets.values())
    set_up_torch(config["threads"])
    segmenter = load_segmenter(config, task, folder)
    written = []
    for done, (case_id, path) in enumerate(files.items(), 1):
        case = _case(case_id, path, task)
        (answer,) = predict_cases(segmenter, task, [case], [0], config)
        with output.write(targets[case_id]) as part:
            _write(part, answer.mask.numpy(), path, task)
        written.append(out / targets[case_id])
        progress.report("segmenting", done, len(files))
    return written


def _single(source: Path) -> dict[str, Path]:
    if not source.exists():
        raise InputError(f"{source}: no such file or folder; give a folder of images or one image")
    suffix = format_suffix(source)
    return {source.name[: -len(suffix)] if suffix else source.stem: source}


def _case(case_id: str, path: Path, task: TaskSpec) -> Case:
    picture = decode(path, task.channels)
    if not task.orientation and picture.turn is not None:  # a run that took volumes as they are stored
        picture = as_stored(picture)
    check_range(picture.values, path, ranges_of_run(task), "save it with such values")
    image = images.as_image(picture, path, task.channels)
    if image.ndim - 1 != task.dims:
        kinds = {2: "an image", 3: "a volume"}
        raise InputError(f"{path}: {image.ndim - 1}-dimensional; this run segments {kinds[task.dims]} per file")
    if task.dims == 3 and format_suffix(path) not in NIFTI:
        raise InputError(f"{path}: a volume without a grid to write its mask on; save it as NIfTI")
    return Case(case_id, case_id, image, np.zeros((len(task.labels), *image.shape[1:]), bool))


def _write(target: Path, mask: np.ndarray, like: Path, task: TaskSpec) -> None:
    labels = label_map(mask, task)
    if target.suffix == ".png":
        images.write_mask_png(target, mask[0] if not task.label_ids and len(mask) == 1 else labels)
    else:
        write_nifti(target, labels, like, turned=bool(task.orientation))


def label_map(mask: np.ndarray, task: TaskSpec) -> np.ndarray:
    """Mask (L, *S) bool as values (*S): those of the dataset's masks, or 1, 2, ... where a label has several.

    Where labels overlap the later one wins, as in a map painted in order; labels of several values come first.
    """
    single = [values[0] for values in task.label_ids if len(values) == 1 and 0 < values[0] <= LARGEST]
    own = bool(single) and len(single) == len(mask)
    ids = single if own else list(range(1, len(mask) + 1))
    several = [len(values) for values in task.label_ids] if task.label_ids else [1] * len(mask)
    painted = np.zeros(mask.shape[1:], np.uint16 if max(ids) > 255 else np.uint8)
    for _, index, label in sorted(zip(several, ids, mask, strict=True), key=lambda row: -row[0]):
        painted[label] = index
    return painted
