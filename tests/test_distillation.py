"""A light vision encoder learns from a trained model, and doubtful answers are computed exactly."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.measure.complexity import count_gflop
from sdseg.architecture import ARCHITECTURES
from sdseg.fast.distillation import Student, answering_exactly
from sdseg.model import SDSeg
from sdseg.segmenter import SDSegSegmenter, distilled_segmenter, pretrained_segmenter
from sdseg.vision_encoder import VisionEncoder
from tests.test_inference import inputs, scrambled

TASK = SimpleNamespace(channels=3, labels=("mask",), image_size=(32, 32))
RECIPE = {"steps": 60, "batch_size": 4, "lr": 0.01, "validate_every": 60, "flips": []}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a model whose answers depend on the image."""
    folder = tmp_path_factory.mktemp("teacher")
    scrambled(ARCHITECTURES["tiny"], prediction="z0").save_pretrained(folder)
    return folder


def images() -> torch.Tensor:
    return inputs(4)[0]


def generators() -> list[torch.Generator]:
    return inputs(4)[1]


def items() -> list[dict[str, torch.Tensor]]:
    return [{"image": image, "mask": image[:1] > 0} for image in images()]


def student(teacher: Path, **options: object) -> SDSegSegmenter:
    return distilled_segmenter(TASK, 0, "cpu", RECIPE, str(teacher), "light", **options)


def test_a_light_encoder_is_a_tenth_of_the_papers() -> None:
    light, full = (VisionEncoder(ARCHITECTURES["paper"], light).eval() for light in (True, False))
    with torch.no_grad():
        assert light(torch.zeros(1, 1, 64, 64)).shape == full(torch.zeros(1, 1, 64, 64)).shape == (1, 4, 8, 8)
        assert count_gflop(lambda: light(torch.zeros(1, 3, 256, 256))) < 31  # of 273


def test_the_encoder_alone_learns_and_comes_nearer_to_the_teachers_answers(teacher: Path, tmp_path: Path) -> None:
    segmenter = student(teacher)
    model, z_T = segmenter.model, torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    before = {name: x.clone() for name, x in model.state_dict().items()}
    with answering_exactly(model):
        expected = model.estimate(images(), z_T)
    assert torch.equal(expected, SDSeg.from_pretrained(teacher).estimate(images(), z_T))
    far = (model.estimate(images(), z_T) - expected).abs().mean()
    segmenter.fit(items(), items()[:2], tmp_path)
    assert (model.estimate(images(), z_T) - expected).abs().mean() < 0.5 * far
    changed = {name.split(".")[0] for name, x in model.state_dict().items() if not torch.equal(x, before[name])}
    assert changed == {"vision_encoder"}


def test_what_was_distilled_is_a_model_like_any_other(teacher: Path, tmp_path: Path) -> None:
    segmenter = student(teacher)
    segmenter.save(tmp_path)
    again = student(teacher)
    again.load(tmp_path)
    elsewhere = pretrained_segmenter(TASK, 0, "cpu", {}, str(tmp_path))
    assert elsewhere.model.config.vision_encoder == "light"
    expected = segmenter.predict(images(), generators()).score
    for other in (again, elsewhere):
        assert torch.equal(other.predict(images(), generators()).score, expected)


def test_only_a_light_encoder_is_distilled(teacher: Path) -> None:
    with pytest.raises(ValueError, match="vision_encoder=trainable: only light"):
        distilled_segmenter(TASK, 0, "cpu", RECIPE, str(teacher), "trainable")


def test_a_student_of_several_labels_learns_each() -> None:
    model = Student(scrambled(ARCHITECTURES["tiny"], labels=2))
    image, _ = inputs(2)
    draws = model.draw(2, (32, 32), torch.Generator().manual_seed(0))
    losses = model.train().loss(image, torch.zeros(2, 2, 32, 32, dtype=torch.bool), draws)
    losses.total.backward()
    assert losses.total > 0
    assert all(p.grad is not None for p in model.trained.parameters())
    assert not model.denoiser.training


@pytest.mark.parametrize("kind", ["distilled", "light decoder"])
def test_doubtful_images_are_computed_again_without_light_parts(kind: str, teacher: Path) -> None:
    def made(**options: object) -> SDSegSegmenter:
        if kind == "distilled":
            return student(teacher, **options)
        return pretrained_segmenter(TASK, 0, "cpu", {}, str(teacher), decoder="light", **options)

    exact = pretrained_segmenter(TASK, 0, "cpu", {}, str(teacher)).predict(images(), generators()).score
    fast = made().predict(images(), generators())
    doubts = ((fast.score - 0.5).abs() < 0.1).flatten(1).sum(dim=1)
    limit = int(doubts.sort().values[1])  # one or two images are above it
    checked = made(recheck=limit)
    found = checked.predict(images(), generators()).score
    again = doubts > limit
    assert 0 < again.sum() < 4
    torch.testing.assert_close(found[again], exact[again], rtol=0, atol=1e-5)
    assert torch.equal(found[~again], fast.score[~again])
    assert checked.describe()["rechecked"] == float(again.float().mean())
    assert "rechecked" not in made().describe()


def test_nothing_is_checked_again_where_nothing_is_light(teacher: Path) -> None:
    with pytest.raises(ValueError, match="recheck=3: this model has no light parts"):
        pretrained_segmenter(TASK, 0, "cpu", {}, str(teacher), recheck=3)
