"""The exported graph gives the model's masks, and a graph that does not is refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from bench.cli import main
from sdseg.architecture import ARCHITECTURES
from sdseg.config import SDSegConfig
from sdseg.fast import onnx_export
from sdseg.fast.onnx_export import check_onnx, export_onnx, export_segmenter
from sdseg.model import SDSeg

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

# Exporting costs seconds per hundred operators: the smallest network that has every kind of part.
SMALL = ARCHITECTURES["tiny"].model_copy(
    update={
        "codec_widths": (8, 8),
        "vision_widths": (8, 8),
        "vision_attention": False,
        "unet_widths": (8,),
        "attention_levels": (False,),
        "heads": 2,
    }
)


def small(**options) -> SDSeg:
    torch.manual_seed(0)
    model = SDSeg(SDSegConfig(architecture=SMALL, **options)).eval()
    with torch.no_grad():
        for parameter in model.denoiser.parameters():  # it begins as nothing
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def inputs(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, 3, 16, 16, generator=generator), torch.randn(count, 4, 8, 8, generator=generator)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> tuple[SDSeg, Path]:
    model, path = small(), tmp_path_factory.mktemp("onnx") / "new" / "small.onnx"
    agreement = export_onnx(model, path, (16, 16), 3, labels=["polyp"])
    assert agreement.score_difference < 1e-4
    assert agreement.pixels == 3 * 16 * 16
    return model, path


def test_graph_gives_the_masks_at_any_batch_size(exported) -> None:
    model, path = exported
    images, starts = inputs(5)
    masks = model.single_step(images, starts).mask
    assert 0 < int(masks.sum()) < masks.numel()  # something to get wrong
    agreement = check_onnx(path, model, images, starts)
    assert agreement.score_difference < 1e-4
    assert agreement.pixels == masks.numel()


def test_file_says_what_it_is(exported) -> None:
    model, path = exported
    graph = onnx.load(path)
    facts = {p.key: p.value for p in graph.metadata_props}
    assert facts["labels"] == '["polyp"]'
    assert facts["threshold"] == "score > 0.5"
    assert facts["decoder"] == "frozen"
    assert SDSegConfig.model_validate_json(facts["config"]) == model.config
    assert graph.opset_import[0].version >= 18
    assert [x.name for x in graph.graph.output] == ["score", "mask"]
    assert [x.name for x in path.parent.iterdir()] == [path.name]  # no leftovers


def test_refuses_a_graph_of_another_model(exported) -> None:
    other, path = small(), exported[1]
    torch.nn.init.normal_(other.vision_encoder.out.weight)
    with pytest.raises(ValueError, match="mask pixels differ"):
        check_onnx(path, other, *inputs(2))


def test_step_for_several_labels_equals_the_model() -> None:
    model, (images, starts) = small(labels=2, multiclass="softmax"), inputs(2)
    score, mask = onnx_export._SingleStep(model)(images, starts)
    expected = model.single_step(images, starts)
    torch.testing.assert_close(score, expected.score)
    assert torch.equal(mask, expected.mask)


def test_only_pixels_near_the_decision_are_forgiven() -> None:
    softmax = SDSegConfig(architecture=SMALL, labels=2, multiclass="softmax")
    score = torch.tensor([[0.4995, 0.1], [0.3, 0.1]]).view(2, 2, 1, 1)  # background 0.4005 and 0.6
    assert onnx_export._undecided(score, SDSegConfig(architecture=SMALL)).flatten().tolist() == [True] + 3 * [False]
    tie = torch.tensor([[0.4, 0.2005], [0.3999, 0.2]]).view(2, 2, 1, 1)  # background 0.3995 and 0.4001
    assert onnx_export._undecided(tie, softmax).flatten().tolist() == [True, True]
    assert onnx_export._undecided(score, softmax).flatten().tolist() == [False, False]


def test_refuses_what_is_no_single_step(tmp_path: Path) -> None:
    task = SimpleNamespace(image_size=(16, 16), channels=3, labels=["polyp"])
    with pytest.raises(ValueError, match="takes 10"):
        export_segmenter(SimpleNamespace(model=small(), inference={"steps": 10}), task, tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="only SDSeg models"):
        export_segmenter(SimpleNamespace(model=torch.nn.Conv2d(1, 1, 1), inference={}), task, tmp_path / "x.onnx")


def test_verb_names_a_folder_that_is_no_run(tmp_path: Path, capsys) -> None:
    assert main(["export", str(tmp_path), "--out", str(tmp_path / "x.onnx")]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}")


def test_names_missing_packages(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(onnx_export, "find_spec", lambda name: None if name == "onnxscript" else object())
    with pytest.raises(ValueError, match=r"export needs onnxscript: pip install 'sdseg-bench\[export\]'"):
        export_onnx(small(), tmp_path / "x.onnx", (16, 16), 3)
