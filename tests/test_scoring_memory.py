"""Labels are scored one after another: memory does not grow with their number."""

from __future__ import annotations

import hashlib
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from bench.datasets.masks.rule import LabelMasks, MaskRule
from bench.results.stored import StoredCase
from bench.scoring.case import score_case
from bench.scoring.folder_inputs import Reading, open_folders

SHAPE = (24, 64, 64)


def write_blocks(path: Path, labels: int) -> None:
    """A volume of so many labels, each some slices of columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    plane = np.arange(SHAPE[2]) * labels // SHAPE[2] + 1
    np.save(path, np.broadcast_to(plane, SHAPE).astype(np.uint8))


def peak_of(folder: Path, labels: int) -> int:
    """Bytes at the worst moment of reading and scoring a volume."""
    for side in ("pred", "ref"):
        write_blocks(folder / side / "a.npy", labels)
    inputs = open_folders(folder / "pred", folder / "ref", Reading(mask="labels"))
    assert len(inputs.labels) == labels
    tracemalloc.start()
    stored = inputs.read("a")
    stored.reference_digest(), stored.predictions_digest()
    values = score_case(stored, inputs.labels, ["Dice", "HD95"], None)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(values.rows) == labels * 2
    return peak


def test_memory_does_not_grow_with_the_number_of_labels(tmp_path: Path) -> None:
    few, many = peak_of(tmp_path / "few", 2), peak_of(tmp_path / "many", 50)
    assert many - few < 12 * np.prod(SHAPE)  # as masks, 48 more labels would be 96 times that


def test_masks_of_labels_are_those_of_a_stack() -> None:
    plane = np.array([[0, 1, 2], [3, 3, 0]], np.uint8)
    masks = LabelMasks(MaskRule(("a", "b"), ((1,), (2, 3)), ""), plane)
    assert masks.shape == (2, 2, 3)
    assert np.array_equal(masks.stack(), [plane == 1, plane >= 2])
    assert np.array_equal(masks[-1], plane >= 2)
    with pytest.raises(IndexError):
        masks[2]


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 4, 8, 8), (3, 1, 1, 1)])
@pytest.mark.parametrize("scored", [True, False])
def test_content_is_hashed_as_if_it_lay_in_one_array(shape: tuple[int, ...], scored: bool) -> None:
    rng = np.random.default_rng(0)
    masks, reference, ignored = rng.random(shape) < 0.5, rng.random(shape[1:]) < 0.5, rng.random(shape[2:]) < 0.2
    scores = rng.random(shape, np.float32) if scored else None
    stored = StoredCase("x", "g", reference, masks, scores, (1.0, 2.0), ignored)
    kept = ~ignored
    of_masks = hashlib.sha256(repr(("x", shape)).encode() + np.packbits(masks & kept).tobytes())
    of_masks.update(b"" if scores is None else (scores * kept).tobytes())
    assert stored.predictions_digest() == of_masks.hexdigest()
    words = repr(("x", shape[1:], (1.0, 2.0))).encode()
    content = np.packbits(reference).tobytes() + (np.packbits(ignored).tobytes() if ignored.any() else b"")
    assert stored.reference_digest() == hashlib.sha256(words + content).hexdigest()
