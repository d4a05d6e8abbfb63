"""Feature alignment with a frozen teacher: what it trains, what it leaves alone, what it refuses."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from bench.config import compose_config
from sdseg.alignment import FeatureAlignment, load_teacher
from sdseg.architecture import ARCHITECTURES
from sdseg.config import Alignment, SDSegConfig
from sdseg.loss import Losses
from sdseg.model import SDSeg
from sdseg.training.procedural_masks import draw_masks

TINY = ARCHITECTURES["tiny"]
SMALL = Alignment(teacher="test_vit", teacher_size=32, teacher_width=6, projector_width=16)


class Toy(nn.Module):
    """A teacher whose tokens are 5 x 5 and `width` wide."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.convolution = nn.Sequential(nn.Conv2d(3, width, 3), nn.AdaptiveAvgPool2d(5))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.convolution(image)


def aligned(teacher: nn.Module | None = None, **options: object) -> SDSeg:
    torch.manual_seed(0)
    config = SDSegConfig.model_validate({"architecture": TINY, "prediction": "z0", "alignment": SMALL, **options})
    return SDSeg(config, teacher)


def loss(model: SDSeg) -> Losses:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(2, 3, 32, 32, generator=generator) * 2 - 1
    return model.train().loss(image, draw_masks(2, 32, generator), model.draw(2, (32, 32), generator))


def down_gradient(model: SDSeg) -> torch.Tensor:
    """Gradient of the U-Net's first convolution."""
    gradient = model.denoiser.unet.conv_in.weight.grad
    assert gradient is not None
    return gradient


@pytest.mark.parametrize("level", [0, 2])
def test_alignment_trains_projector_and_unet_but_not_the_teacher(level: int) -> None:
    teacher = Toy()
    before = copy.deepcopy(teacher.state_dict())
    model = aligned(teacher, alignment=SMALL.model_copy(update={"level": level}))
    optimizer = torch.optim.AdamW(model.parameter_groups(), lr=1e-2)
    first = loss(model)
    first.total.backward()
    assert all(p.grad is not None for p in model.trained.parameters())
    assert all(p.grad is None and not p.requires_grad for p in teacher.parameters())
    assert not teacher.training
    optimizer.step()
    assert loss(model).alignment < first.alignment
    assert all(torch.equal(before[k], v) for k, v in teacher.state_dict().items())
    # It is not saved, but follows the model.
    extra = set(model.state_dict()) - set(aligned(alignment=None).state_dict())
    assert extra == {f"alignment.projector.{i}.{name}" for i in (0, 2, 4) for name in ("weight", "bias")}
    model.to(torch.float64)
    assert all(p.dtype == torch.float64 for p in teacher.parameters())


def test_total_is_the_other_losses_plus_the_weighted_alignment() -> None:
    plain, model = aligned(alignment=None), aligned(Toy())
    without, with_it = loss(plain), loss(model)
    assert without.alignment is None
    assert -1 <= float(with_it.alignment) <= 1
    torch.testing.assert_close(with_it.total, without.total + 0.75 * with_it.alignment)
    assert torch.equal(with_it.noise, without.noise)
    without.total.backward()
    with_it.total.backward()
    assert not torch.allclose(down_gradient(plain), down_gradient(model))


def test_cosine_is_that_of_tokens_resized_bilinearly_in_their_place() -> None:
    alignment = FeatureAlignment(SMALL.model_copy(update={"teacher_width": 32}), TINY, nn.Identity())
    alignment.projector = nn.Sequential(nn.Identity())
    blocks = nn.ModuleList([nn.Identity()])
    alignment.watch(blocks)
    ramp = torch.linspace(1, 2, 32).view(1, 32, 1, 1) * torch.ones(2, 1, 1, 1)
    for size, scale, expected in ((5, 0.1, -1.0), (16, -2.0, 1.0)):
        blocks[0]((ramp.expand(-1, -1, 8, 8), ()))
        assert float(alignment(scale * ramp.expand(-1, -1, size, size))) == pytest.approx(expected, abs=1e-6)
    tokens = torch.randn(1, 32, 8, 8, generator=torch.Generator().manual_seed(0))
    halved = nn.functional.avg_pool2d(tokens, 2)  # bilinear to half the size
    for feature, equal in ((halved, True), (halved.transpose(2, 3), False)):
        blocks[0]((feature, ()))
        assert (float(alignment(tokens)) == pytest.approx(-1, abs=1e-6)) == equal


def test_prediction_knows_nothing_of_alignment_and_needs_no_teacher(tmp_path: Path) -> None:
    plain, model = aligned(alignment=None).eval(), aligned(Toy()).eval()
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1

    def score(m: SDSeg) -> torch.Tensor:
        return m.predict(image, [torch.Generator().manual_seed(i) for i in range(2)]).score

    expected = score(plain)
    assert torch.equal(score(model), expected)
    model.save_pretrained(tmp_path)
    loaded = SDSeg.from_pretrained(tmp_path)
    assert loaded.config.alignment is None
    assert torch.equal(score(loaded), expected)
    assert set(load_file(tmp_path / "model.safetensors")) == set(plain.state_dict())
    model.drop_alignment()
    assert set(model.state_dict()) == set(plain.state_dict())
    assert loss(model).alignment is None
    assert set(model.trained) == {"denoiser", "vision_encoder"}


def test_loss_is_float32_under_autocast_and_copies_align_with_their_own_features() -> None:
    model = aligned(Toy())
    twin, expected = copy.deepcopy(model), loss(model)
    torch.testing.assert_close(loss(twin).total, expected.total)
    with torch.autocast("cpu", torch.bfloat16):
        losses = loss(model)
    assert losses.total.dtype == torch.float32
    assert float(losses.alignment) == pytest.approx(float(expected.alignment), abs=0.02)


def test_what_does_not_fit_is_refused_and_only_training_needs_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"teacher_width=6: this teacher's tokens are 7 wide"):
        loss(aligned(Toy(width=7)))
    with pytest.raises(ValueError, match=r"alignment\.level=3: this U-Net has levels 0 to 2"):
        aligned(Toy(), alignment=SMALL.model_copy(update={"level": 3}))
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"pip install 'sdseg-bench\[alignment\]'"):
        aligned().prepare([torch.ones(1, 1, 64, 64, dtype=torch.bool)], torch.Generator())


def test_the_methods_file_makes_such_a_model() -> None:
    method = compose_config(["method=sdseg_aligned", "method.options.alignment.weights=teacher.pth"])["method"]
    options = method["options"] | {"architecture": TINY}
    config = SDSegConfig.model_validate(options)
    assert config.prediction == "z0"
    assert config.alignment == Alignment(weights="teacher.pth")


def test_leaf_is_that_model_with_its_own_schedule_and_recipe() -> None:
    config = compose_config(["profile=paper", "method=leaf", "method.options.alignment.weights=teacher.pth"])
    options = config["method"]["options"] | {"architecture": TINY}
    model = SDSegConfig.model_validate(options)
    assert (model.prediction, model.schedule) == ("z0", "linear")
    assert model.alignment == Alignment(
        teacher="vit_base_patch14_reg4_dinov2.lvd142m", weights="teacher.pth", weight=0.1875
    )
    recipe = config["method"]["recipe"]
    assert [recipe[key] for key in ("lr", "warmup", "steps", "batch_size", "max_grad_norm", "precision")] == [
        *(4e-5, 10000, 100000, 4, 1.0, "bf16")
    ]


class TestTimm:
    """With timm's smallest vision transformer."""

    @pytest.fixture(autouse=True)
    def timm(self):
        self.timm = pytest.importorskip("timm")
        torch.manual_seed(3)

    def vit(self, size: int, classes: int = 0):
        return self.timm.create_model("test_vit", pretrained=False, num_classes=classes, img_size=size)

    def config(self, **options: object) -> Alignment:
        return Alignment.model_validate({**SMALL.model_dump(), "teacher_width": 64, **options})

    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    def test_reads_a_file_and_gives_normalised_patch_tokens(self, tmp_path: Path, suffix: str) -> None:
        vit, path = self.vit(32, classes=5).eval(), tmp_path / f"teacher{suffix}"
        save = save_file if suffix == ".safetensors" else torch.save
        save(vit.state_dict(), path)
        random_state = torch.get_rng_state()
        teacher = load_teacher(self.config(weights=str(path)))
        assert torch.equal(torch.get_rng_state(), random_state)
        image = torch.rand(2, 1, 32, 32) * 2 - 1
        mean, std = (torch.tensor(vit.pretrained_cfg[k]).view(3, 1, 1) for k in ("mean", "std"))
        with torch.no_grad():
            expected = vit.forward_features(((image.expand(-1, 3, -1, -1) + 1) / 2 - mean) / std)[:, 1:]
            found = teacher(image)
        assert found.shape == (2, 64, 2, 2)
        torch.testing.assert_close(found[:, :, 0, 1], expected[:, 1])
        assert not any(p.requires_grad for p in teacher.parameters())
        assert not teacher.training
        assert teacher(torch.zeros(1, 3, 48, 64)).shape == (1, 64, 2, 2)

    def test_a_model_trains_with_a_teacher_from_a_file_of_another_image_size(self, tmp_path: Path) -> None:
        save_file(self.vit(64).state_dict(), tmp_path / "teacher.safetensors")
        model = aligned(alignment=self.config(weights=str(tmp_path / "teacher.safetensors")))
        loss(model).total.backward()
        assert all(p.grad is not None for p in model.alignment.projector.parameters())

    def test_refuses_what_does_not_fit(self, tmp_path: Path) -> None:
        part = {name: x for name, x in self.vit(32).state_dict().items() if name != "blocks.0.attn.qkv.weight"}
        states = {
            "does not fit alignment.teacher=test_vit": {"unrelated": torch.zeros(2)},
            "holds no tensors": {"head.weight": torch.zeros(2)},
            "does not fit": part,
        }
        for reason, state in states.items():
            save_file(state, tmp_path / "other.safetensors")
            with pytest.raises(ValueError, match=reason) as refusal:
                load_teacher(self.config(weights=str(tmp_path / "other.safetensors")))
            assert str(tmp_path / "other.safetensors") in str(refusal.value)
            assert "\n" not in str(refusal.value)
        with pytest.raises(ValueError, match=r"gone\.pth: no such file"):
            load_teacher(self.config(weights=str(tmp_path / "gone.pth")))
        with pytest.raises(ValueError, match=r"alignment\.teacher=nonsense: timm knows no such model"):
            load_teacher(self.config(teacher="nonsense"))

    def test_without_weights_it_refuses_and_never_guesses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def unreachable(*_: object, **__: object) -> None:
            raise OSError("no route to the hub\nlong story")

        monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", unreachable)
        monkeypatch.setattr("timm.models._builder.load_state_dict_from_url", unreachable)
        with pytest.raises(ValueError, match=r"no route to the hub\); give alignment\.weights=FILE") as refusal:
            aligned(alignment=self.config()).prepare([], torch.Generator())
        assert "\n" not in str(refusal.value)
