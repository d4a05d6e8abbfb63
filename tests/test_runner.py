"""fit -> predict -> score: the same numbers whatever the batch size, order, workers or interruptions."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from bench.config import Cell, expand
from bench.errors import InputError
from bench.measure.cost import footprint_scores, known_rounds, on_this_machine
from bench.record import Score, Timing, read_scores
from bench.results.store import RunFolder
from bench.runner import Run, run_cell
from tests.own_code import OwnCode

SMALL = [
    "seed=0",
    "draws=2",
    "image_size=32",
    # Four violent steps: what an untrained network predicts is empty, and empty masks agree whatever is wrong.
    "train.steps=4",
    "train.lr=0.1",
    "train.warmup=0",
    "train.batch_size=2",
    "train.validate_every=2",
    "train.checkpoint_every=2",
]
NARROW = ["method.options.options.features=[8,8,8,8,8,8]"]
POLYP = [
    "dataset=phantom/polyp",
    "dataset.n_train=6",
    "dataset.n_val=2",
    "dataset.n_test=3",
    "dataset.size=48",
]
ORGANS = [
    "dataset=phantom/organs",
    "dataset.n_train=1",
    "dataset.n_val=1",
    "dataset.n_test=1",
    "dataset.shape=[8,40,40]",
]

pytestmark = pytest.mark.usefixtures("no_lpips")


def cell(runs: Path, *more: str, data: list[str] = POLYP, method: str = "sdseg") -> Cell:
    narrow = NARROW if method == "unet" else []
    (made,) = expand([f"method={method}", *SMALL, *narrow, *data, "threads=1", f"runs_dir={runs}", *more])
    return made


def own(runs: Path, *more: str) -> Cell:
    """A method from outside that learns nothing: three cases, two draws, the noise that the runner gives."""
    return cell(runs, *more, data=["dataset=own_data"], method="own")


def predictions(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    run = RunFolder(folder)
    paths = sorted(folder.glob("predictions/draw-*/*.npz"))
    return {f"{p.parent.name}/{p.stem}": run.read_prediction(int(p.parent.name[5:]), p.stem) for p in paths}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.scoring.run.open_lpips", lambda *_: (None, "off"))
        return run_cell(cell(tmp_path_factory.mktemp("runs")))


def test_a_run_leaves_what_the_design_says(done: Path) -> None:
    names = {p.relative_to(done).as_posix() for p in done.rglob("*") if p.is_file()}
    assert {"config.yaml", "record.json", "scores.parquet", "predictions/inference.json"} <= names
    assert {f"model/{name}" for name in ("model.safetensors", "log.jsonl", "config.json")} <= names
    card = (done / "model" / "README.md").read_text()
    assert "phantom/polyp: 6 training" in card
    assert "test Dice" in card
    assert len([n for n in names if n.startswith("predictions/") and n.endswith(".npz")]) == 6
    frame = read_scores(done / "scores.parquet")
    assert len(frame[(frame["metric"] == "Dice") & (frame["draw"] >= 0)]) == 6
    assert set(frame.loc[frame["draw"] == -1, "metric"]) >= {"SSIM/score", "Dice/pairs", "flip_rate", "LPIPS/seg"}
    record = RunFolder(done).read_record()
    assert record.hash.startswith(done.name.split("-")[1])
    assert record.config["train"]["steps"] == 4
    assert record.notes[0] == "off"
    assert not list(done.glob("scoring-*"))


def same(one: Path, other: Path) -> bool:
    """Whether `other` has the predictions of `one`."""
    made = predictions(other)
    return all(np.array_equal(*pair) for n, p in predictions(one).items() for pair in zip(p, made[n], strict=True))


def test_neither_batch_size_nor_order_changes_predictions(
    own_code: OwnCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_cell(own(tmp_path / "whole", "predict_batch_size=8"))
    assert len(predictions(whole)) == 6
    for batch in (1, 4):
        made = run_cell(own(tmp_path / str(batch), f"predict_batch_size={batch}"))
        assert made.name == whole.name
        assert same(whole, made)
    run = Run(own(tmp_path / "shuffled"))
    run.fit()
    wanted = run.predictions()
    shuffled = [wanted[i] for i in np.random.default_rng(0).permutation(len(wanted))]
    assert shuffled != wanted
    monkeypatch.setattr(run, "predictions", lambda: shuffled)
    run.predict()
    assert same(whole, run.folder.path)


def test_seeds_and_draws_differ_and_more_draws_keep_the_first(own_code: OwnCode, tmp_path: Path) -> None:
    first, other = (run_cell(own(tmp_path / "runs", f"seed={seed}")) for seed in (0, 1))
    assert first.name.partition("-")[2] != other.name.partition("-")[2]
    assert "borrowed_from" not in (RunFolder(other).fit_facts() or {})
    assert not same(first, other)
    made = predictions(first)
    assert not np.array_equal(made["draw-000/case3"][0], made["draw-001/case3"][0])
    more = run_cell(own(tmp_path / "more", "draws=3"))
    assert len(predictions(more)) == 9
    assert same(first, more)


def test_interrupted_steps_end_with_the_same_scores(
    own_code: OwnCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As rounding does, the answer depends on how many images are seen at once: batches stay what they were.
    own_code.edit("own_method", "+ 0.3", "+ 0.3 + 0.01 * len(image)")
    whole, made = (own(tmp_path / name, "predict_batch_size=4") for name in ("whole", "torn"))
    for name, allowed in (("write_prediction", 3), ("write_scores", 0)):
        calls, original = [], getattr(RunFolder, name)

        def stop(self, *args, calls=calls, allowed=allowed, original=original):
            calls.append(1)
            if len(calls) > allowed:
                raise KeyboardInterrupt
            return original(self, *args)

        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, name, stop)
            with pytest.raises(KeyboardInterrupt):
                run_cell(made)
    folder, expected = run_cell(made), run_cell(whole)
    assert same(expected, folder)
    pd.testing.assert_frame_equal(*(read_scores(f / "scores.parquet") for f in (folder, expected)))
    assert not list(folder.rglob(".part-*"))

    def fail(*_args, **_options):
        raise AssertionError("was done already")

    monkeypatch.setattr("bench.scoring.case.score_case", fail)
    monkeypatch.setattr("bench.runner.build_segmenter", fail)
    assert run_cell(made) == folder


def test_a_method_that_differs_in_inference_borrows_the_training(done: Path, tmp_path: Path) -> None:
    first = shutil.copytree(done.parents[2], tmp_path / "a") / done.relative_to(done.parents[2])
    (first / "revisions.json").write_text('["first"]')
    # The checkpoint is selected with one step, whichever method trains first.
    second, alone = (run_cell(cell(tmp_path / name, method="sdseg_ddim10"), ["fit"]) for name in "ab")
    assert (RunFolder(second).fit_facts() or {})["borrowed_from"] == "sdseg"
    assert RunFolder(second).revisions() == ["first"]
    assert first.name != second.name
    assert len({(f / "model/model.safetensors").read_bytes() for f in (first, second, alone)}) == 1


def test_volumes_go_slice_by_slice_and_come_back_whole(tmp_path: Path) -> None:
    folder = run_cell(cell(tmp_path, "draws=1", "metrics=[Dice]", data=ORGANS, method="unet"))
    record = RunFolder(folder).read_record()
    (score, mask), *_ = predictions(folder).values()
    assert score.shape == mask.shape == (len(record.labels), 8, 40, 40)
    assert len(record.labels) > 1
    frame = read_scores(folder / "scores.parquet")
    assert set(frame["label"]) == set(record.labels)


def test_a_folder_of_predictions_is_a_method(done: Path, tmp_path: Path) -> None:
    from bench.datasets.images import write_mask_png

    for name, (score, mask) in predictions(done).items():
        write_mask_png(tmp_path / "theirs" / f"{name}.png", mask[0])
        (tmp_path / "soft" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "soft" / f"{name}.npy", score[0])
    root = [f"method.options.root={tmp_path / 'theirs'}"]
    made = run_cell(cell(tmp_path / "runs", *root, method="predictions"))
    of_masks = "draw >= 0 and metric not in ('ECE', 'Brier')"  # without scores, a folder's score is its mask
    ours, theirs = (read_scores(f / "scores.parquet").query(of_masks) for f in (done, made))
    pd.testing.assert_frame_equal(ours, theirs)
    soft = [*root, f"method.options.scores={tmp_path / 'soft'}"]
    with_scores = run_cell(cell(tmp_path / "soft_runs", *soft, method="predictions"))
    everything = [
        read_scores(f / "scores.parquet").query("not metric.str.contains('LPIPS')") for f in (done, with_scores)
    ]
    pd.testing.assert_frame_equal(*everything)  # calibration and stability of the scores among them
    first = tmp_path / "theirs" / f"{next(iter(predictions(done)))}.png"
    write_mask_png(first, np.ones((48, 48), bool))
    assert run_cell(cell(tmp_path / "runs", *root, method="predictions")).name != made.name  # other masks, another run
    with pytest.raises(InputError, match="holds 2 draws; set draws=2"):
        run_cell(cell(tmp_path / "more", *root, "draws=3", method="predictions"))
    np.save(tmp_path / "soft" / f"{next(iter(predictions(done)))}.npy", np.zeros((40, 48)))
    with pytest.raises(
        InputError, match=r"size 40 x 48, but its reference has 48 x 48.*method\.options\.resample=true"
    ):
        run_cell(cell(tmp_path / "other", *soft, method="predictions"))
    first.unlink()
    with pytest.raises(InputError, match="no file named"):
        run_cell(cell(tmp_path / "again", *root, method="predictions"))


def test_predictions_of_any_size_with_the_datasets_own_label_ids(tmp_path: Path) -> None:
    from bench.datasets.images import write_mask_png

    for i, side in enumerate((40, 52, 64)):
        labels = np.zeros((side, side), np.uint8)
        labels[4:20, 4:20], labels[24:36, 8:30] = 6, 1
        for folder in ("images", "masks"):
            write_mask_png(tmp_path / "data" / folder / f"case{i}.png", labels)
    made = run_cell(
        cell(
            tmp_path / "runs",
            f"method.options.root={tmp_path / 'data' / 'masks'}",
            "draws=1",
            "dataset.labels={liver: 6, spleen: 1}",
            "dataset.split=[0,0,1]",
            "metrics=[Dice,IoU]",
            data=["dataset=folder", f"dataset.root={tmp_path / 'data'}"],
            method="predictions",
        )
    )
    frame = read_scores(made / "scores.parquet")
    assert len(frame) == 3 * 2 * 2  # cases x labels x (Dice, IoU)
    assert (frame["value"] == 1).all()


def test_costs_of_another_machine_are_dropped(done: Path) -> None:
    record = RunFolder(done).read_record()
    scores = [Score(metric="latency_ms_p50", value=3.0), Score(metric="train_s_per_step", value=1.0)]
    measured = record.with_scores(scores)
    assert on_this_machine(measured, "cpu").score("latency_ms_p50") == 3.0
    elsewhere = {**record.environment, "torch": {"threads": 999}}
    moved = on_this_machine(measured.model_copy(update={"environment": elsewhere}), "cpu")
    assert [s.metric for s in moved.scores if s.metric.endswith("p50")] == []
    assert moved.score("train_s_per_step") == 1.0
    assert moved.environment["torch"]["threads"] != 999


def test_costs_are_measured_once_by_the_same_code_and_settings(done: Path, tmp_path: Path) -> None:
    runs = shutil.copytree(done.parents[2], tmp_path / "runs")
    run, other = Run(cell(runs)), Run(cell(runs, "measure.rounds=99"))
    assert known_rounds(run, "predict_batch1") is None
    timing = Timing(seconds=[0.1, 0.2], workload=[0.1, 0.1], workload_name="work")
    parameters = Score(metric="parameters_m", value=123.0)
    record = run.folder.read_record().with_scores([parameters])
    run.folder.write_record(record.model_copy(update={"timings": {"predict_batch1": timing}}))
    assert (known_rounds(run, "predict_batch1"), known_rounds(other, "predict_batch1")) == (timing, None)
    assert footprint_scores(run) == [parameters]
    code = {**record.code, "fit": {"date": "2026-01-01", "codes": ["of another day"]}}
    run.folder.write_record(record.model_copy(update={"timings": {"predict_batch1": timing}, "code": code}))
    assert known_rounds(run, "predict_batch1") is None


def test_a_run_knows_every_revision_that_made_it(
    own_code: OwnCode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at(commit: str) -> None:
        for module in ("runner", "scoring.run"):
            monkeypatch.setattr(f"bench.{module}.revision", lambda: commit)

    at("first")
    run_cell(own(tmp_path), ["fit"])
    at("second")
    folder = RunFolder(run_cell(own(tmp_path), ["predict"]))
    assert folder.revisions() == ["first", "second"]
    at("third")
    run_cell(own(tmp_path))
    assert folder.revisions() == ["first", "second", "third"]
    at("fourth")  # finds everything done
    run_cell(own(tmp_path))
    assert folder.revisions() == ["first", "second", "third"]
    (folder.path / "revisions.json").unlink()
    folder.note_revisions("fifth")
    assert folder.revisions() == ["unknown", "fifth"]
