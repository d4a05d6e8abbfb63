"""Raw downloads of three cases or fewer in the layout of the true ones, drawn in milliseconds."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
from PIL import Image

from bench.cli import main
from bench.files import sha256_of

KVASIR = ("cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4", "cju0qx73cjw570799j4n5cjze")
AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])  # to the left, the back and the head, as scanners write
EVERY = ("cvc_clinicdb", "kvasir_seg", "refuge2", "btcv", "sts3d")


def picture(seed: int) -> np.ndarray:
    """A photograph (24, 32, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 255, (24, 32, 3), dtype=np.uint8)


def label() -> np.ndarray:
    """A black and white mask (24, 32)."""
    mask = np.zeros((24, 32), np.uint8)
    mask[6:14, 8:20] = 255
    return mask


def eye() -> np.ndarray:
    """Grey levels (24, 32) as REFUGE has them: a cup inside the rim of a disc."""
    levels = np.full((24, 32), 255, np.uint8)
    levels[6:16, 8:20] = 128
    levels[9:13, 11:16] = 0
    return levels


def save(path: Path, values: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)


def scan(seed: int = 0) -> np.ndarray:
    """A CT volume (X, Y, Z) in HU."""
    return np.random.default_rng(seed).integers(-1000, 1500, (12, 10, 6)).astype(np.int16)


def organs(most: int) -> np.ndarray:
    """Label ids (X, Y, Z) from 0 to `most`."""
    ids = np.zeros((12, 10, 6), np.uint8)
    ids[2:9, 3:8, 1:5] = np.arange(7 * 5 * 4).reshape(7, 5, 4) % (most + 1)
    return ids


def save_volume(path: Path, values: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)


def write_raw(name: str, root: Path) -> Path:
    """Write the raw download of a data set; returns its folder."""
    if name == "cvc_clinicdb":
        for number in (1, 26, 51):
            for kind in ("PNG", "TIF"):
                save(root / kind / "Original" / f"{number}.{kind.lower()}", picture(number))
                save(root / kind / "Ground Truth" / f"{number}.{kind.lower()}", label())
        rows = "".join(f"{sequence},PNG/Original/{n}.png\n" for sequence, n in ((1, 1), (2, 26), (3, 51)))
        (root / "metadata.csv").write_text("sequence_id,png_image_path\n" + rows)
    elif name == "kvasir_seg":
        for number, case in enumerate(KVASIR):
            save(root / "Kvasir-SEG" / "images" / f"{case}.jpg", picture(number))
            save(root / "Kvasir-SEG" / "masks" / f"{case}.jpg", np.stack([label()] * 3, -1), quality=95)
    elif name == "refuge2":
        for folder, case, suffix in (("train", "g0001", "bmp"), ("val", "V0001", "png"), ("test", "T0001", "bmp")):
            save(root / "REFUGE2" / folder / "images" / f"{case}.jpg", picture(len(folder)))
            save(root / "REFUGE2" / folder / "mask" / f"{case}.{suffix}", eye())
    else:
        home, folders, names, most = {
            "btcv": (root / "RawData" / "Training", ("img", "label"), "{}000{}", 13),
            "sts3d": (root / "labelled", ("image", "label"), "Teeth_000{1}_0000", 1),
        }[name]
        for case in (1, 5):
            for folder, values in zip(folders, (scan(case), organs(most)), strict=True):
                save_volume(home / folder / (names.format(folder, case) + ".nii.gz"), values)
    return root


def pack(folder: Path, archive: Path) -> Path:
    """A zip or tar archive of a folder's content, by its suffix."""
    files = [(path, str(path.relative_to(folder))) for path in sorted(folder.rglob("*")) if path.is_file()]
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w") as bundle:
            for path, name in files:
                bundle.write(path, name)
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix == ".gz" else "w") as tape:
            for path, name in files:
                tape.add(path, name)
    return archive


def call(name: str, source: Path, out: Path, *words: str) -> int:
    """`sdseg prepare` for a download that is not whole; returns the exit code."""
    return main(["prepare", name, "--source", str(source), "--out", str(out), "--partial", *words])


def visible(folder: Path) -> dict[str, str]:
    """Hash of every file that is not hidden, by path."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    inside = [(path, path.relative_to(folder)) for path in files]
    return {str(name): sha256_of(path) for path, name in inside if not any(p.startswith(".") for p in name.parts)}


class Whole:
    """What an undisturbed call makes of a data set's raw download, made once."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, dict[str, str]] = {}

    def files(self, name: str, *words: str) -> dict[str, str]:
        """Hashes by path, as `visible` gives them."""
        key = "-".join((name, *words))
        if key not in self._files:
            raw, out = write_raw(name, self._folder / key / "raw"), self._folder / key / "out"
            assert call(name, raw, out, *words) == 0
            self._files[key] = visible(out)
            shutil.rmtree(self._folder / key)
        return self._files[key]
