"""Volumes in MetaImage and NRRD files, read through SimpleITK where it is installed, in the orientation of NIfTI.

Their coordinates run to the left, the back and the head; here they become NIfTI's. DICOM is named and refused: the
frames of a segmentation are sparse and of several segments, which a volume does not tell apart.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from nibabel.orientations import inv_ornt_aff, io_orientation

from bench.datasets.grids import turned
from bench.datasets.limits import UnfitError, check_stream
from bench.picture import Picture

FOREIGN = (".seg.nrrd", ".mha", ".mhd", ".nrrd", ".nhdr", ".dcm")
_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # of coordinates towards left, back and head
_HEADER = 1 << 20  # bytes


def decode_foreign(path: Path, suffix: str) -> Picture:
    """Values (C, [D,] H, W); raises UnfitError without SimpleITK, and for DICOM."""
    if suffix == ".dcm":
        raise UnfitError("DICOM; convert it to NIfTI, segmentations with segimage2itkimage of dcmqi say")
    itk = _simple_itk(suffix)
    header = _header(path)
    stored = sum(part.stat().st_size for part in (path, *_parts(path, header)))
    reader = itk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:  # its first lines speak of SimpleITK's own source
        raise ValueError(
            f"no {suffix} file: {str(error).strip().splitlines()[-1].removeprefix('sitk::ERROR: ')}"
        ) from error
    pixels = int(np.prod(reader.GetSize(), dtype=object)) * reader.GetNumberOfComponents()
    packed = header.get("compresseddata", "").lower() == "true" or header.get("encoding", "raw") != "raw"
    check_stream(pixels * itk.Image([1, 1], reader.GetPixelID()).GetSizeOfPixelComponent(), stored, packed)
    image = reader.Execute()
    values = itk.GetArrayFromImage(image)  # ([Z,] Y, X[, C])
    several = image.GetNumberOfComponentsPerPixel() > 1
    values = np.moveaxis(values, -1, 0) if several else values[None]
    picture = Picture(values, tuple(float(v) for v in image.GetSpacing()[::-1]))
    affine = _affine(image) if image.GetDimension() == 3 else None
    if affine is None:
        return picture
    turn = io_orientation(affine)
    shape = values.shape[:0:-1]
    return turned(picture, turn)._replace(affine=affine @ inv_ornt_aff(turn, shape), turn=turn)


def files_of(path: Path) -> list[Path]:
    """The file and those that hold its values, where a header stands alone."""
    return [path, *_parts(path, _header(path))] if path.name.lower().endswith((".mhd", ".nhdr")) else [path]


def _simple_itk(suffix: str) -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise UnfitError(
            f"{suffix} needs SimpleITK: pip install 'sdseg-bench[formats]', or save it as NIfTI"
        ) from error
    SimpleITK.ProcessObject.GlobalWarningDisplayOff()
    return SimpleITK


def _header(path: Path) -> dict[str, str]:
    """Keys and values of a header, which stands before the data or alone, lower case."""
    with path.open("rb") as file:
        text = file.read(_HEADER).decode("latin-1")
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, sign, value = line.partition("=" if "mh" in path.suffix.lower() else ":")
        if not line.strip():
            break
        fields[key.strip().lower()] = value.strip()
        if sign and key.strip().lower() == "elementdatafile":
            break
    return fields


def _parts(path: Path, header: dict[str, str]) -> list[Path]:
    """The file of the values where the header names another one, which must lie beside it."""
    name = header.get("elementdatafile") or header.get("data file") or header.get("datafile") or "LOCAL"
    if name == "LOCAL":
        return []
    if name != Path(name).name or name.startswith("LIST") or "%" in name:
        raise UnfitError(f"its values lie in {name!r}; save them in one file beside it, or as .mha or .nrrd")
    if not (path.parent / name).is_file():
        raise UnfitError(f"its values are missing: no file {name!r} beside it")
    return [path.parent / name]


def _affine(image: Any) -> np.ndarray | None:
    """The affine of NIfTI; None where the file has the values that stand for none."""
    direction = np.array(image.GetDirection()).reshape(3, 3)
    if np.array_equal(direction, np.eye(3)) and not any(image.GetOrigin()):
        return None
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = direction * image.GetSpacing(), image.GetOrigin()
    return _RAS @ affine
