"""What training keeps to look at: the right arrays at the right moments, and not a weight otherwise than without."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.config import Cell, expand
from bench.files import digest
from bench.results.identity import fit_identity, run_identity
from bench.runner import Run
from sdseg.segmenter import SDSegSegmenter, sdseg_segmenter
from sdseg.traces import STEPS
from sdseg.training.batches import step_generator
from sdseg.training.recipe import Recipe
from sdseg.training.traces import typical_items
from sdseg.training.trainer import train
from tests.training_fixtures import RECIPE, Toy, discs, items

MOMENTS = [0, 0.26, 0.5, 1]  # steps 0, 3, 6 and 12 of 12: behind no checkpoint, at one, between two, at the end


def look(image: torch.Tensor, mask: torch.Tensor, generators: list[torch.Generator]) -> dict[str, np.ndarray]:
    """Draws from its generators, and from the global one as dropout would."""
    torch.rand(5)
    own = torch.stack([torch.rand(3, generator=generator) for generator in generators])
    return {"drawn": own.numpy(), "area": mask.flatten(1).sum(1).numpy()}


def weights(model: torch.nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "traces").iterdir())}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """Folder and weights of a training of the toy that keeps something."""
    model, folder = Toy(), tmp_path_factory.mktemp("kept")
    recipe = RECIPE.model_copy(update={"keep": MOMENTS, "keep_cases": 2})
    train(model, items(), items(3), recipe, folder, 0, "cpu", look)
    return folder, weights(model)


def test_weights_and_log_are_the_same_to_the_bit_with_and_without(tmp_path: Path, kept: tuple) -> None:
    plain = Toy()
    train(plain, items(), items(3), RECIPE, tmp_path, 0, "cpu", look)
    assert torch.equal(weights(plain), kept[1])
    assert (tmp_path / "log.jsonl").read_bytes() == (kept[0] / "log.jsonl").read_bytes()
    assert not (tmp_path / "traces").exists()
    state, other = (torch.load(folder / "training.pt", weights_only=True) for folder in (tmp_path, kept[0]))
    assert all(torch.equal(a, b) for a, b in zip(state["ema"]["shadow"], other["ema"]["shadow"], strict=True))


def test_every_moment_has_a_file_of_the_chosen_cases(kept: tuple) -> None:
    assert list(contents(kept[0])) == [f"step-{step:06d}.npz" for step in (0, 3, 6, 12)]
    chosen = typical_items(items(3), 2)
    for path in (kept[0] / "traces").iterdir():
        with np.load(path, allow_pickle=False) as stored:
            assert stored["case"].tolist() == [str(index) for index in chosen]
            noise = [torch.rand(3, generator=step_generator(0, index, purpose=3)) for index in chosen]
            assert np.array_equal(stored["drawn"], torch.stack(noise).numpy())
            image = torch.stack([items(3)[index]["image"] for index in chosen])
            assert np.abs(stored["image"] / 127.5 - 1 - image.numpy()).max() <= 1 / 255
            assert stored["mask"].sum((1, 2, 3)).tolist() == stored["area"].tolist()


@pytest.mark.parametrize("stop_at", [5, 12])
def test_a_killed_training_keeps_the_same_bytes(tmp_path: Path, kept: tuple, stop_at: int) -> None:
    recipe, torn, again = RECIPE.model_copy(update={"keep": MOMENTS, "keep_cases": 2}), Toy(), Toy()
    torn.stop_at = stop_at
    with pytest.raises(KeyboardInterrupt):
        train(torn, items(), items(3), recipe, tmp_path, 0, "cpu", look)
    train(again, items(), items(3), recipe, tmp_path, 0, "cpu", look)
    assert contents(tmp_path) == contents(kept[0])
    assert torch.equal(weights(again), kept[1])


def test_a_method_that_has_nothing_to_show_keeps_nothing(tmp_path: Path) -> None:
    recipe = RECIPE.model_copy(update={"keep": [0.0, 1.0], "steps": 2})
    train(Toy(), items(), items(3), recipe, tmp_path, 0, "cpu")
    assert not (tmp_path / "traces").exists()


def test_a_typical_item_is_of_median_area_and_not_empty() -> None:
    areas = [0, 5, 1, 3, 0, 0, 0, 2]
    data = [{"mask": torch.arange(9).reshape(1, 3, 3) < area} for area in areas]
    assert typical_items(data, 2) == [3, 7]  # of 1, 3, 5 and of 2
    assert typical_items([data[0], data[4]], 4) == [0, 1]


@pytest.fixture(scope="module", params=[1, 2])
def shown(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[SDSegSegmenter, Path]:
    """SDSeg of one and of two labels after a few steps, and its folder."""
    task = SimpleNamespace(channels=3, labels=("a", "b")[: request.param], image_size=(32, 32))
    recipe = {"steps": 4, "batch_size": 2, "lr": 0.01, "validate_every": 4, "keep": [0, 1], "keep_cases": 2}
    segmenter, folder = sdseg_segmenter(task, 0, "cpu", recipe), tmp_path_factory.mktemp("shown")
    data = [item | {"mask": item["mask"][: request.param]} for item in discs()]
    segmenter.fit(data, data[:4], folder)
    return segmenter, folder / "traces"


def test_the_reverse_process_ends_with_the_models_own_answer(shown: tuple[SDSegSegmenter, Path]) -> None:
    segmenter, folder = shown
    chosen = typical_items(discs()[:4], 2)
    image = torch.stack([discs()[index]["image"] for index in chosen])
    generators = [step_generator(0, index, purpose=3) for index in chosen]
    with np.load(folder / "step-000004.npz") as last, np.load(folder / "step-000000.npz") as first:
        answer = segmenter.model.predict(image, generators, steps=STEPS)  # the last weights are the best
        assert np.array_equal(last["reverse"][:, -1], answer.score.half().numpy())
        assert last["reverse"].shape[1] == len(last["reverse_t"]) == STEPS
        assert last["reverse_t"].tolist() == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
        assert not np.array_equal(last["reverse"], first["reverse"])
        assert np.array_equal(last["image_latent"], segmenter.model.condition(image).detach().half().numpy())


def test_reconstructions_are_the_decoded_latents_and_no_training_moves_them(shown: tuple[SDSegSegmenter, Path]) -> None:
    segmenter, folder = shown
    with np.load(folder / "step-000004.npz") as last, np.load(folder / "step-000000.npz") as first:
        latent = torch.from_numpy(last["mask_latent"]).float().flatten(0, 1)
        decoded = segmenter.model.codec.decode_score(latent).reshape(last["mask"].shape)
        sure = (decoded - 0.5).abs() > 0.05  # latents are kept in half precision
        assert (torch.from_numpy(last["reconstruction"]) == (decoded > 0.5))[sure].all()
        assert sure.float().mean() > 0.9
        overlap = (last["reconstruction"] & last["mask"]).sum()
        assert 2 * overlap / (last["reconstruction"].sum() + last["mask"].sum()) > 0.8
        assert np.array_equal(first["reconstruction"], last["reconstruction"])


def test_a_control_that_saw_no_noised_mask_has_no_reverse_process(tmp_path: Path) -> None:
    task = SimpleNamespace(channels=3, labels=("a",), image_size=(32, 32))
    recipe = {"steps": 1, "batch_size": 2, "lr": 0.01, "validate_every": 1, "keep": [1]}
    data = [item | {"mask": item["mask"][:1]} for item in discs(2)]
    sdseg_segmenter(task, 0, "cpu", recipe, prediction="z0", control="random").fit(data, data, tmp_path)
    with np.load(tmp_path / "traces" / "step-000001.npz") as stored:
        assert set(stored) == {"case", "image", "mask", "mask_latent", "reconstruction", "image_latent"}


def cell(runs: Path, *more: str) -> Cell:
    tiny = ["image_size=32", "draws=2", "threads=1", "dataset.n_train=4", "dataset.n_val=2", "dataset.n_test=2"]
    recipe = ["train.steps=4", "train.batch_size=2", "train.validate_every=2", "train.checkpoint_every=2"]
    (made,) = expand([f"runs_dir={runs}", "seed=0", "dataset=phantom/polyp", "method=sdseg", *tiny, *recipe, *more])
    return made


def test_a_run_that_keeps_is_one_of_its_own_and_shares_its_training(tmp_path: Path) -> None:
    data = {"data": "d", "split": "s"}
    plain, asked = cell(tmp_path), cell(tmp_path, "train.keep=[0,1]")
    assert fit_identity(plain, data) == fit_identity(asked, data)
    assert {"keep", "keep_cases"}.isdisjoint(run_identity(plain, data) | fit_identity(plain, data)["recipe"])
    assert digest(run_identity(plain, data)) != digest(run_identity(asked, data))
    Run(plain).fit()
    keeping = Run(asked)
    keeping.fit()  # the first has nothing to show
    assert (keeping.folder.fit_facts() or {}).get("borrowed_from") is None
    ten = Run(cell(tmp_path, "train.keep=[0,1]", "method.inference.steps=10"))
    ten.fit()
    assert (ten.folder.fit_facts() or {})["borrowed_from"] == "sdseg"
    files = [sorted((run.folder.model / "traces").iterdir()) for run in (keeping, ten)]
    assert [path.name for path in files[0]] == ["step-000000.npz", "step-000004.npz"]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]
    weights = [(run.folder.model / "model.safetensors").read_bytes() for run in (Run(plain), keeping)]
    assert weights[0] == weights[1]


def test_shares_beyond_the_training_are_refused() -> None:
    with pytest.raises(ValueError, match="less than or equal to 1"):
        Recipe.model_validate({"steps": 1, "batch_size": 1, "lr": 1, "keep": [0, 1.5]})
