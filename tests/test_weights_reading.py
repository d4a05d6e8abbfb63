"""Other people's checkpoint files: read as data, whatever their pickles ask for."""

from __future__ import annotations

import io
import os
import pickle
import sys
import tarfile
import types
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sdseg.weights import read_state_dict

State = dict[str, torch.Tensor]

SAVERS: dict[str, Callable[[object, Path], object]] = {
    "zip": torch.save,
    "legacy": lambda content, path: torch.save(content, path, _use_new_zipfile_serialization=False),
}


@pytest.fixture(params=list(SAVERS))
def save(request: pytest.FixtureRequest) -> Callable[[object, Path], object]:
    return SAVERS[request.param]


def various() -> State:
    numbers = torch.arange(24.0)
    return {
        "matrix": numbers.view(4, 6).t(),  # not contiguous, and sharing its storage
        "part": numbers[3:7],
        "half": numbers.half(),
        "bfloat": numbers.bfloat16(),
        "count": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "none": torch.empty(0),
        "weight": torch.nn.Parameter(numbers.double()),
    }


def assert_equal(found: State, expected: State) -> None:
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name


def test_plain_state_dict(tmp_path: Path, save) -> None:
    save(various(), tmp_path / "a.pt")
    assert_equal(read_state_dict(tmp_path / "a.pt"), various())


def test_lightning_checkpoint_without_lightning(tmp_path: Path, save, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("absent_library")
    monkeypatch.setitem(sys.modules, "absent_library", module)
    for base in (object, dict, list):
        made = type(f"Own{base.__name__}", (base,), {"__module__": "absent_library"})
        setattr(module, made.__name__, made)
    settings, rows, facts = module.Owndict(a=1), module.Ownlist([2]), module.Ownobject()
    settings.note, facts.score = "x", np.float64(3)
    checkpoint = {
        "callbacks": {module.Ownobject: {"best": torch.ones(1)}},
        "hyper_parameters": {"settings": settings, "rows": rows, "facts": facts, "place": Path("a")},
        "state_dict": various(),
        "optimizer_states": [{"state": {0: torch.ones(3)}}],
    }
    save(checkpoint, tmp_path / "a.ckpt")
    monkeypatch.delitem(sys.modules, "absent_library")
    assert_equal(read_state_dict(tmp_path / "a.ckpt"), various())


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def test_what_a_pickle_wants_executed_is_not(tmp_path: Path, save) -> None:
    mark, harmless = tmp_path / "executed", {"w": torch.ones(2)}
    places = ({"callbacks": {"x": Touch(mark)}, "state_dict": harmless}, {"x": Touch(mark), **harmless})
    for i, content in enumerate(places):
        save(content, tmp_path / f"{i}.ckpt")
        assert_equal(read_state_dict(tmp_path / f"{i}.ckpt"), harmless)
    assert not mark.exists()
    with (tmp_path / "0.ckpt").open("rb") as file:  # the trap itself is no dud
        if zipfile.is_zipfile(file):
            torch.load(tmp_path / "0.ckpt", weights_only=False)
            assert mark.exists()


@pytest.mark.parametrize(
    "program",
    [b"cposix\nsystem\n(S'touch {}'\ntR.", b"cbuiltins\ngetattr\n(cos\nsystem\nS'__call__'\ntR(S'touch {}'\ntR."],
)
def test_hand_written_pickles_do_nothing(tmp_path: Path, program: bytes) -> None:
    mark = tmp_path / "executed"
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", program.replace(b"{}", str(mark).encode()))
    with pytest.raises(ValueError, match=r"a\.ckpt: truncated or no checkpoint"):
        read_state_dict(path)
    assert not mark.exists()


def saved(save: Callable[[object, Path], object], path: Path) -> bytes:
    save({"w": torch.ones(100)}, path)
    return path.read_bytes()


def bad_files(folder: Path) -> dict[str, bytes]:
    zipped, legacy = (saved(save, folder / "whole") for save in SAVERS.values())
    safe = saved(save_file, folder / "whole")
    deflated, stream = zipfile.ZipFile(folder / "whole.zip", "w", zipfile.ZIP_DEFLATED), io.BytesIO(zipped)
    with deflated, zipfile.ZipFile(stream) as archive:
        for name in archive.namelist():
            deflated.writestr(name, archive.read(name))
    torch.jit.script(torch.nn.Identity()).save(folder / "program")
    with tarfile.open(folder / "tar", "w") as archive:
        archive.add(folder / "whole", "storages")
    flipped = bytearray(zipped)
    place = zipped.find(torch.ones(100).numpy().tobytes())
    flipped[place + 5] ^= 0xFF
    return {
        "page.ckpt": b"<!DOCTYPE html><html>sign in</html>",
        "pointer.ckpt": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
        "empty.ckpt": b"",
        "noise.ckpt": bytes(range(256)),
        "short.ckpt": zipped[: len(zipped) // 2],
        "flipped.ckpt": bytes(flipped),
        "squeezed.ckpt": (folder / "whole.zip").read_bytes(),
        "program.pt": (folder / "program").read_bytes(),  # of another language, whose reader runs it
        "tar.pt": (folder / "tar").read_bytes(),  # torch would unpack it
        "short_legacy.pt": legacy[:-100],
        "shorter_legacy.pt": legacy[:200],
        "short.safetensors": safe[:-8],
        "number.pt": pickle.dumps(5),
    }


def test_bad_file_gives_one_line_that_names_it(tmp_path: Path) -> None:
    for name, content in bad_files(tmp_path).items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}: ") as caught:
            read_state_dict(tmp_path / name)
        assert "\n" not in str(caught.value)
        assert any(advice in str(caught.value) for advice in ("download", "git lfs pull"))


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_tensors_that_claim_more_than_the_file_holds_are_refused(
    save: Callable[[object, Path], object], tmp_path: Path
) -> None:
    one = torch.ones(1000, 1000)  # 4 MB
    tied = {"embedding": one, "head": one, "bias": torch.zeros(1).expand(64)}
    save(tied, tmp_path / "tied.pt")
    assert_equal(read_state_dict(tmp_path / "tied.pt"), tied)
    for bomb in ({"w": one[0, 0].expand(45_000, 45_000)}, {f"w{i}": one for i in range(500)}):
        save({"state_dict": bomb}, tmp_path / "bomb.pt")
        with pytest.raises(ValueError, match=r"bomb\.pt: .*its tensors claim"):
            read_state_dict(tmp_path / "bomb.pt")


def test_absent_file_and_file_without_tensors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no such file"):
        read_state_dict(tmp_path / "a.ckpt")
    torch.save({"state_dict": {"a": 1}}, tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match="no tensors by name"):
        read_state_dict(tmp_path / "a.ckpt")
