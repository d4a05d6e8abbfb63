"""Planted faults of every kind, each found and named; clean data passes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.ndimage import gaussian_filter

from bench.cli import main
from bench.command.audit import audit_data
from bench.datasets.audit.checks import Audit, audit
from bench.datasets.audit.kinds import KINDS
from bench.datasets.audit.near import near_duplicates, small_grey
from bench.datasets.audit.subject import of_folder, of_prepared
from bench.datasets.manifests import manifest
from bench.datasets.mini import WHOLE, write_mini
from bench.datasets.preparing import prepare

N = 16
SIZE = (48, 64)


def texture(number: int, size: tuple[int, ...] = SIZE) -> np.ndarray:
    """A smooth random picture (*size) uint8."""
    field = gaussian_filter(np.random.default_rng(number).standard_normal(size), 2.5)
    return ((field - field.min()) / np.ptp(field) * 255).astype(np.uint8)


def disc(size: tuple[int, ...] = SIZE) -> np.ndarray:
    """A mask (*size) uint8 of 0 and 1."""
    axes = np.meshgrid(*(np.arange(n) - n / 2 for n in size), indexing="ij")
    return (sum(a**2 for a in axes) < (min(size) / 3.5) ** 2).astype(np.uint8)


def save(path: Path, values: np.ndarray, affine: np.ndarray | None = None, turn: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if values.ndim == 3:
        image = nib.Nifti1Image(values.T.astype(np.int16), affine)
        image.header.set_xyzt_units("mm")
        nib.save(image, path)
        return
    exif = Image.Exif()
    if turn:
        exif[0x0112] = turn
    Image.fromarray(values).save(path, exif=exif, quality=95)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """An image folder with a manifest: case c00 .. c15, each a group of its own, c00 .. c09 training."""
    for number in range(N):
        save(tmp_path / "images" / f"c{number:02d}.png", texture(number))
        save(tmp_path / "masks" / f"c{number:02d}.png", disc() * 255)
    splits = ["train"] * 10 + ["val"] * 3 + ["test"] * 3
    rows = [f"c{n:02d},c{n:02d},{split}" for n, split in enumerate(splits)]
    (tmp_path / "rows.csv").write_text("\n".join(["case,group,split", *rows]) + "\n")
    return tmp_path


AFFINE = np.array([[-2, 0, 0, 40], [0, -2, 0, 30], [0, 0, 3, -70], [0, 0, 0, 1.0]])


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    for number in range(3):
        save(tmp_path / "images" / f"v{number}.nii.gz", texture(number, (8, 20, 24)), AFFINE)
        save(tmp_path / "masks" / f"v{number}.nii.gz", disc((8, 20, 24)), AFFINE)
    return tmp_path


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """A prepared miniature of a few Kvasir-SEG ids."""
    rows = manifest("kvasir_seg", "800_100_100")
    raw = tmp_path / "raw"
    for number, case in enumerate(rows["case"][:60:5]):
        save(raw / "images" / f"{case}.jpg", texture(number))
        save(raw / "masks" / f"{case}.jpg", disc() * 255)
    (raw / WHOLE).touch()
    prepare("kvasir_seg", raw, tmp_path / "out", partial=True)
    return tmp_path / "out"


def of_pictures(root: Path) -> Audit:
    return audit(of_folder(root, root / "rows.csv"))


def kinds(done: Audit) -> dict[str, list[str]]:
    """The cases of every kind of trouble."""
    return {kind: [t.case for t in done.troubles if t.kind == kind] for kind in {t.kind for t in done.troubles}}


def test_clean_data_passes(pictures: Path, prepared: Path) -> None:
    assert kinds(of_pictures(pictures)) == {}
    done = audit(of_prepared(prepared))
    assert kinds(done) == {"miniature": ["12 of 1000 cases"]}
    assert done.passed
    assert len(done.counts) == 5


def test_clean_volumes_pass(volumes: Path) -> None:
    assert kinds(audit(of_folder(volumes))) == {}


def other_light(root: Path) -> None:
    """c13 (test) is c01 (training) brighter, and smaller; c12 (val) and c11 (val) are alike too."""
    for source, copy in (("c01", "c13"), ("c11", "c12")):
        image = Image.open(root / "images" / f"{source}.png")
        dim = ImageEnhance.Brightness(image).enhance(0.7).resize((58, 44))
        save(root / "images" / f"{copy}.png", np.asarray(dim))
        save(root / "masks" / f"{copy}.png", disc((44, 58)) * 255)


def copied(root: Path) -> None:
    shutil.copy(root / "images/c01.png", root / "images/c13.png")
    shutil.copy(root / "images/c02.png", root / "images/c03.png")


def straddling(root: Path) -> None:
    table = root / "rows.csv"
    table.write_text(table.read_text().replace("c04,c04,", "c04,one,").replace("c14,c14,", "c14,one,"))


def short(root: Path) -> None:
    path = root / "images/c05.png"
    path.write_bytes(path.read_bytes()[:200])
    save(root / "masks/c06.tif", texture(1).astype(np.float32) / 300)
    (root / "masks/c06.png").unlink()


def alone(root: Path) -> None:
    (root / "masks/c05.png").unlink()
    save(root / "masks/other.png", disc())


def off_size(root: Path) -> None:
    save(root / "masks/c05.png", disc((64, 48)) * 255)


def inverted(root: Path) -> None:
    save(root / "masks/c05.png", 255 - disc() * 255)


def empty(root: Path) -> None:
    save(root / "masks/c05.png", disc() * 0)


def several(root: Path) -> None:
    mask = disc() * 255
    mask[20:28, 20:30] = 127
    save(root / "masks/c05.png", mask)


def soft(root: Path) -> None:
    save(root / "masks/c05.jpg", disc() * 255)
    (root / "masks/c05.png").unlink()


def label_map(root: Path) -> None:
    for path in (root / "masks").iterdir():
        mask = disc()
        mask[20:28, 20:30] = 2
        save(path, mask)


def turned(root: Path) -> None:
    """Stored lying (EXIF 6): c05 with its mask upright, c06 with one that lies as stored, c07 upside down."""
    for case, turn in (("c05", 6), ("c06", 6), ("c07", 3), ("c08", 6)):
        (root / f"images/{case}.png").unlink()
        stored = texture(50 + int(case[1:]))
        save(root / f"images/{case}.jpg", np.rot90(stored) if case == "c05" else stored, turn=turn)
    save(root / "masks/c05.png", disc(SIZE) * 255)
    (root / "masks/c08.png").unlink()
    save(root / "masks/c08.jpg", disc() * 255, turn=6)


PLANTED: dict[Callable[[Path], None], dict[str, list[str]]] = {
    other_light: {"leak": ["c01 and c13"], "near": ["c11 and c12"]},
    copied: {
        "leak": ["c01 and c13"],
        "near": ["c02 and c03"],
        "same content across splits": ["c01 and c13"],
        "same content": ["c02 and c03"],
    },
    straddling: {"straddling": ["one"]},
    short: {"unreadable": ["c05", "c06"]},
    alone: {"unpaired": ["c05", "other"]},
    off_size: {"off-size": ["c05"]},
    inverted: {"inverted": ["c05"]},
    empty: {"empty": ["c05"]},
    several: {"multi-valued": ["c05"]},
    soft: {"soft": ["c05"]},
    label_map: {"label map": [f"c{n:02d}" for n in range(N)]},
    turned: {"read turned": ["c05", "c08"], "turned": ["c06", "c07"], "soft": ["c08"]},
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_planted_fault_is_found_and_named(pictures: Path, plant: Callable[[Path], None]) -> None:
    plant(pictures)
    done = of_pictures(pictures)
    assert kinds(done) == PLANTED[plant]
    assert done.passed == (not any(KINDS[kind].finding for kind in PLANTED[plant]))


def test_labels_that_are_named_are_checked(pictures: Path) -> None:
    label_map(pictures)
    mask = disc()
    mask[20:28, 20:30] = 5
    save(pictures / "masks/c03.png", mask)
    done = audit(of_folder(pictures, labels={"lesion": 1, "core": "2"}))
    assert kinds(done) == {"unknown label": ["c03"]}
    assert [t.text for t in done.troubles] == ["5"]


MOVED = AFFINE + np.array([[0, 0, 0, 9], [0] * 4, [0] * 4, [0] * 4])
WIDER = AFFINE @ np.diag([1.5, 1.5, 1, 1])
MIRRORED = np.diag([-1.0, 1, 1, 1]) @ AFFINE


@pytest.mark.parametrize(
    ("affine", "kind", "said"),
    [
        (MOVED, "geometry", "origin"),
        (WIDER, "geometry", "spacing"),
        (MIRRORED, "geometry", "origin"),
        (None, "unstated", "the image"),
    ],
    ids=["moved", "wider", "mirrored", "unstated"],
)
def test_volumes_and_masks_that_lie_apart(volumes: Path, affine: np.ndarray | None, kind: str, said: str) -> None:
    save(volumes / "masks/v1.nii.gz", disc((8, 20, 24)), affine)
    (trouble,) = audit(of_folder(volumes)).troubles
    assert (trouble.kind, trouble.case) == (kind, "v1")
    assert said in trouble.text


def test_a_mask_of_fewer_slices(volumes: Path) -> None:
    save(volumes / "masks/v1.nii.gz", disc((7, 20, 24)), AFFINE)
    assert kinds(audit(of_folder(volumes))) == {"off-size": ["v1"]}


def test_prepared_folders_are_held_to_what_was_published(prepared: Path) -> None:
    info = json.loads((prepared / "dataset.json").read_text())
    first, second = list(info["cases"])[:2]
    info["miniature"] = False
    (prepared / "dataset.json").write_text(json.dumps(info))
    save(prepared / "masks" / f"{first}.png", disc() * 7)
    save(prepared / "images" / "more.png", disc())
    table = prepared / "splits" / "pranet.csv"
    table.write_text(table.read_text().replace(f"{second},{second},train", f"{second},{second},test"))
    other = prepared / "splits" / "fcbformer.csv"
    other.write_text("\n".join(other.read_text().splitlines()[:-1]) + "\n")
    done = audit(of_prepared(prepared))
    assert kinds(done) == {
        "unknown label": [first],
        "changed": [f"masks/{first}.png", "images/more.png"],
        "manifest": ["fcbformer.csv", "pranet.csv"],
        "counts": ["12 of 1000 cases"],
    }
    assert {t.split for t in done.troubles if t.kind == "manifest"} == {"fcbformer", "pranet"}
    assert kinds(audit(of_prepared(prepared, "effisegnet"))).keys() == {"unknown label", "changed", "counts"}


def test_every_kind_is_planted() -> None:
    elsewhere = {"unknown label", "geometry", "unstated", "changed", "manifest", "counts", "miniature"}
    assert {kind for some in PLANTED.values() for kind in some} | elsewhere == set(KINDS)


def test_what_all_images_share_makes_no_pair() -> None:
    """One anatomy in all: only the copies, darker and smaller, are near-duplicates."""
    shared = texture(99, (96, 96)).astype(np.float32) * 4
    images = [shared + texture(n, (96, 96)) for n in range(40)]
    raw = np.corrcoef([image.ravel() for image in images])
    assert raw[np.triu_indices(40, 1)].min() > 0.85
    images += [images[1] * 0.6, images[2][::2, ::2]]
    pairs = near_duplicates([small_grey(image[None]) for image in images])
    assert {(pair.a, pair.b) for pair in pairs} == {(1, 40), (2, 41)}


def test_a_camera_that_moved_a_little_makes_a_pair() -> None:
    images = [texture(n, (96, 96)).astype(np.float32) for n in range(40)]
    images += [np.roll(images[0], (5, -4), (0, 1)), images[1] + np.linspace(0, 90, 96)]
    pairs = near_duplicates([small_grey(image[None]) for image in images])
    assert {(pair.a, pair.b) for pair in pairs} == {(0, 40), (1, 41)}


def test_few_images_need_to_be_copies() -> None:
    shared = texture(99, (96, 96)).astype(np.float32) * 4
    images = [shared + texture(n, (96, 96)) for n in range(4)]
    pairs = near_duplicates([small_grey(image[None]) for image in [*images, images[0] * 0.9]])
    assert [(pair.a, pair.b) for pair in pairs] == [(0, 4)]


@pytest.fixture(scope="module")
def cvc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every second sequence of the miniature."""
    folder = tmp_path_factory.mktemp("cvc")
    rows = manifest("cvc_clinicdb", "sequence")
    cases = rows["case"][rows["group"].isin(sorted(set(rows["group"]))[::2])]
    prepare("cvc_clinicdb", write_mini("cvc_clinicdb", folder / "raw", set(cases)), folder / "out", partial=True)
    return folder / "out"


def test_the_miniature_cvc_leaks_by_frame_and_not_by_sequence(
    cvc: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"dataset.root={cvc}", "dataset.split=frame_488_62", "--out", str(tmp_path / "leaks")]
    assert main(["audit", "cvc_clinicdb", *words]) == 1
    said = capsys.readouterr().out
    assert "near-duplicates across splits, split frame_488_62: " in said
    assert "groups in several splits, split frame_488_62: sequence-" in said
    assert main(["audit", str(cvc), "--split", "sequence", "--out", str(tmp_path / "whole")]) == 0
    assert "FINDING" not in capsys.readouterr().out
    facts = json.loads((tmp_path / "leaks" / "audit.json").read_text())
    group_of = dict(zip(*(manifest("cvc_clinicdb", "sequence")[c] for c in ("case", "group")), strict=True))
    pairs = [pair["cases"] for pair in facts["pairs"]]
    assert all(group_of[a] == group_of[b] for a, b in pairs)
    assert len({group_of[a] for a, _ in pairs}) == 15
    assert len({case for pair in pairs for case in pair}) > 0.9 * facts["cases"]
    frames = facts["splits"]["frame_488_62"]
    assert frames["test"] / 2 < frames["test_seen_in_train"] <= frames["test"]
    page = (tmp_path / "leaks" / "audit.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 80
    assert "frame_488_62: test and train" in page


@pytest.mark.parametrize("name", ["phantom/polyp", "phantom/organs"])
def test_phantoms_pass(name: str, tmp_path: Path) -> None:
    counts = [f"dataset.n_{split}={n}" for split, n in (("train", 24), ("val", 4), ("test", 8))]
    size = ["dataset.size=64"] if name == "phantom/polyp" else ["dataset.shape=[12,48,48]"]
    done, page = audit_data(name, [*counts, *size], out=tmp_path / "out")
    assert done.passed
    assert done.cases == 36
    assert page.is_file()
    assert (len(done.pairs) > 5) == (name == "phantom/polyp")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["nowhere"], "nowhere: neither a folder nor a data set"),
        (["phantom/polyp", "dataset.frames=1"], "dataset.frames: no such key; "),
        (["."], "neither a prepared folder (dataset.json) nor one with images/ and masks/"),
        (["OTHER"], "dataset.json: not of a prepared data set; run: sdseg prepare"),
        (["DATA", "--split", "sequence"], "--split sequence: is of prepared folders"),
        (["DATA", "--manifest", "none.csv"], "none.csv: not a readable CSV file"),
        (["DATA", "--out", "DATA/masks"], "lies in DATA/masks, whose files are read"),
        (["folder", "dataset.root=DATA", "dataset.split=[1,1,1]"], "expected three shares"),
    ],
)
def test_bad_input_is_one_line(
    pictures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    (pictures / "OTHER").mkdir()
    (pictures / "OTHER" / "dataset.json").write_text("{}")
    (pictures / "DATA").mkdir()
    for name in ("images", "masks"):
        (pictures / name).rename(pictures / "DATA" / name)
    monkeypatch.chdir(pictures)
    assert main(["audit", *words]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert line in error
    assert not (pictures / "runs").exists()
