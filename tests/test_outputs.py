"""Nothing of the user's is overwritten or deleted by a command that writes where it is told to."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench import cli
from bench.errors import InputError
from bench.files import part_prefix
from bench.results.outputs import LIST, OutputFolder, check_apart, replaced_folder
from tests.test_cli import make_folder

SMALL = "method.options.options.features=[8,8,8,8,8,8]"
QUICK = ["image_size=32", "train.steps=1", "train.batch_size=2", "train.warmup=0", SMALL]

pytestmark = pytest.mark.usefixtures("no_lpips")


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.mktemp("fitted")
    data = [f"dataset.root={make_folder(base / 'data')}", "dataset=folder"]
    assert cli.main(["fit", "method=unet", *data, f"runs_dir={base / 'runs'}", *QUICK]) == 0
    (folder,) = (base / "runs").glob("folder/unet/seed0-*")
    return folder


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Three pictures of the user's."""
    folder = make_folder(tmp_path / "made", 3) / "images"
    return folder.rename(tmp_path / "own")


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    def check(names: str | Path, *arguments: str | Path) -> None:
        capsys.readouterr()
        assert cli.main([str(a) for a in arguments]) == 2
        (message,) = capsys.readouterr().err.splitlines()
        assert message.startswith("error: ")
        assert str(names) in message

    return check


def test_segment_writes_no_mask_over_a_picture(fitted: Path, own: Path, tmp_path: Path, refused) -> None:
    before = content(own)
    (tmp_path / "link").symlink_to(own)
    (own / "inside").mkdir()
    for out in (own, own / ".." / "own", tmp_path / "link", own / "inside", tmp_path / "link" / "new"):
        refused(out, "segment", own, "--model", fitted, "--out", out)
    refused(own, "segment", tmp_path / "link", "--model", fitted, "--out", own)
    refused(own / "case00.png", "segment", own / "case00.png", "--model", fitted, "--out", own)
    assert content(own) == before


def test_segment_writes_over_its_own_masks_alone(fitted: Path, own: Path, tmp_path: Path, refused) -> None:
    out = tmp_path / "masks"
    arguments = ["segment", own, "--model", fitted, "--out", out]
    for _ in range(2):
        assert cli.main([str(a) for a in arguments]) == 0
    whole = content(out)
    Image.fromarray(np.zeros((48, 48), np.uint8)).save(out / "case01.png")  # corrected by hand
    refused(out / "case01.png", *arguments)
    (out / "case01.png").unlink()
    (out / "case02.png").unlink()
    (out / "case02.png").symlink_to(own / "case02.png")
    refused(out / "case02.png", *arguments)
    (out / "case02.png").unlink()
    assert cli.main([str(a) for a in arguments]) == 0
    assert content(out) == whole


def test_score_folder_keeps_the_users_files(tmp_path: Path, refused) -> None:
    data, out = make_folder(tmp_path / "data", 3), tmp_path / "out"
    masks = shutil.copytree(data / "masks", tmp_path / "pred")
    for name in ("scoring/notes.txt", "conventions.parquet", "report.md"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
    mine = content(out)
    arguments = ["score-folder", masks, data / "masks", "--out", out]
    for _ in range(2):
        assert cli.main([str(a) for a in arguments]) == 0
        assert {name: text for name, text in content(out).items() if name in mine} == mine
    refused(out / "conventions.parquet", *arguments, "--conventions")
    (out / "conventions.parquet").unlink()
    assert cli.main([str(a) for a in [*arguments, "--conventions"]]) == 0
    assert cli.main([str(a) for a in arguments]) == 0
    assert not (out / "conventions.parquet").exists()  # that was of the call before
    assert sorted(p.name for p in out.iterdir()) == [
        LIST,
        *("record.json", "report.md", "scores.csv", "scores.parquet", "scoring", "summary.json"),
    ]
    (out / "summary.json").write_text("mine")
    scores = (out / "scores.csv").read_bytes()
    refused(out / "summary.json", *arguments)
    assert (out / "scores.csv").read_bytes() == scores


def test_score_folder_does_not_write_among_what_it_reads(tmp_path: Path, refused) -> None:
    data = make_folder(tmp_path / "data", 3)
    masks = shutil.copytree(data / "masks", tmp_path / "pred")
    for out in (masks, data / "masks", masks / "scores"):
        refused(out, "score-folder", masks, data / "masks", "--out", out)


def test_import_weights_replaces_its_own_folder_alone(tmp_path: Path, refused) -> None:
    from sdseg.mask_codec import load_tiny_codec

    load_tiny_codec().save_pretrained(tmp_path / "codec")
    out, foreign = tmp_path / "out", tmp_path / "foreign"
    arguments = ["import-weights", tmp_path / "codec", "--out"]
    for _ in range(2):
        assert cli.main([str(a) for a in [*arguments, out]]) == 0
    whole = content(out)
    (out / "fine_tuned.safetensors").write_text("mine")
    refused(out / "fine_tuned.safetensors", *arguments, out)
    (out / "fine_tuned.safetensors").unlink()
    assert content(out) == whole
    shutil.copytree(out, foreign)
    (foreign / LIST).unlink()  # a model folder from elsewhere, say a run's
    refused(foreign, *arguments, foreign)
    refused(tmp_path / "codec", *arguments, tmp_path / "codec")
    refused(tmp_path, *arguments, tmp_path)
    (tmp_path / "file").write_text("mine")
    refused(tmp_path / "file", *arguments, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
    assert not list(tmp_path.glob(".part-*"))


def test_report_keeps_the_users_files(tmp_path: Path, refused) -> None:
    for name in ("runs", "site"):
        (tmp_path / name).mkdir()
    (tmp_path / "site" / "index.html").write_text("mine")
    refused(tmp_path / "site" / "index.html", "report", "--runs", tmp_path / "runs", "--out", tmp_path / "site")
    assert (tmp_path / "site" / "index.html").read_text() == "mine"
    for _ in range(2):
        assert cli.main(["report", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "new")]) == 0


def test_promotion_replaces_references_alone(tmp_path: Path, refused) -> None:
    notes = tmp_path / "notes.json"
    notes.write_text("{}")
    refused(notes, "gate", "--promote", "--accept", "--out", notes, "method=unet")
    assert notes.read_text() == "{}"


def test_export_replaces_exports_alone(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    from sdseg.fast.onnx_export import _check_replaceable

    graph = onnx.helper.make_graph([], "nothing", [], [])
    model = onnx.helper.make_model(graph)
    onnx.save(model, tmp_path / "other.onnx")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "new.onnx.data").write_text("mine")
    for name in ("other.onnx", "notes.txt", "new.onnx"):
        with pytest.raises(ValueError, match=f"{name}.*choose another --out"):
            _check_replaceable(tmp_path / name)
    onnx.helper.set_model_props(model, {"z_T": "gaussian", "timestep": "999", "config": "{}"})
    onnx.save(model, tmp_path / "ours.onnx")
    _check_replaceable(tmp_path / "ours.onnx")


def test_a_file_whose_writing_was_killed_is_still_a_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    def write(text: str) -> None:
        OutputFolder(tmp_path).put(tmp_path / "a.txt", text)

    write("first")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            write("second")
    with (tmp_path / LIST).open("a") as file:
        file.write('{"file": "a.t')  # the list itself was cut short
    for text in ("second", "third"):
        write(text)
    assert (tmp_path / "a.txt").read_text() == "third"
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(InputError, match=r"a\.txt"):
        write("fourth")


def test_folders_of_killed_imports_are_swept_and_nothing_else(tmp_path: Path) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left = tmp_path / part_prefix().replace(str(os.getpid()), gone.stdout.strip())
    kept = [tmp_path / ".part-of-mine", tmp_path / part_prefix()]
    for folder in (left, *kept):
        (folder / "old").mkdir(parents=True)
    (tmp_path / "source").mkdir()
    with replaced_folder(tmp_path / "out", tmp_path / "source") as folder:
        (folder / "a").write_text("")
    assert not left.exists()
    assert all(folder.exists() for folder in kept)
    assert (tmp_path / "out" / "a").exists()


def test_folders_are_told_apart_by_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    check_apart(tmp_path / "images_masks", tmp_path / "images", None)
    check_apart(tmp_path, tmp_path / "images")
    with pytest.raises(InputError, match="lies in"):
        check_apart(tmp_path / "none" / ".." / "images" / "masks", tmp_path / "images")
