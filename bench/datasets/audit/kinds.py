"""The kinds of trouble an audit knows: which of them make a number untrustworthy, and what to say of them."""

from __future__ import annotations

from typing import NamedTuple


class Kind(NamedTuple):
    """`finding`: it makes numbers untrustworthy; otherwise a remark. `text` follows the number of cases."""

    finding: bool
    text: str


class Trouble(NamedTuple):
    """One case, pair or group and what is wrong with it; `split` is the manifest in which it is, if in one."""

    kind: str
    case: str
    text: str = ""
    split: str = ""


KINDS = {
    "leak": Kind(True, "near-duplicates across splits"),
    "same content across splits": Kind(True, "the same image in several splits"),
    "straddling": Kind(True, "groups in several splits"),
    "unreadable": Kind(True, "files that cannot be read"),
    "unpaired": Kind(True, "files without their image or mask"),
    "off-size": Kind(True, "masks of another size than their image"),
    "geometry": Kind(True, "masks that lie elsewhere than their image"),
    "turned": Kind(True, "masks that do not turn with their image (EXIF)"),
    "inverted": Kind(True, "masks that look inverted: corners and most of the rest are foreground"),
    "unknown label": Kind(True, "masks with values that no label has"),
    "multi-valued": Kind(True, "masks with more values than the others"),
    "changed": Kind(True, "files that are not as they were prepared"),
    "manifest": Kind(True, "manifests that are not the published ones"),
    "counts": Kind(True, "count that is not the published one"),
    "empty": Kind(False, "empty masks"),
    "near": Kind(False, "near-duplicates within one split"),
    "same content": Kind(False, "the same image twice in one split"),
    "read turned": Kind(False, "images that are read as they are displayed (EXIF)"),
    "soft": Kind(False, "masks with greys between, which are cut at one half"),
    "label map": Kind(False, "masks of several labels; name them (dataset.labels) to have their values checked"),
    "unstated": Kind(False, "volumes that state an orientation where their mask states none, or the other way round"),
    "miniature": Kind(False, "miniature, whose counts are not the published ones"),
}
