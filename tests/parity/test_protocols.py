"""The named protocols beside the released evaluations' own values."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from bench.metrics import Pair
from bench.protocols import Protocol, build_protocol
from bench.protocols.medsegdiff import five_thresholds, soft_target
from bench.scores import mean_defined
from tests.parity import golden_diff_unet, golden_ssformer, medsegdiff
from tests.parity.golden import Golden

MEDSEGDIFF = medsegdiff.Golden()
DIFF_UNET = golden_diff_unet.Golden()
SSFORMER = golden_ssformer.Golden()


def values(protocol: Protocol, pair: Pair) -> dict[str, float]:
    names = [metric.name for metric in protocol.metrics]
    measured = protocol.values(pair, protocol.select(names))
    return {name: mean_defined(units) for name, units in zip(names, measured, strict=True)}


def drawn(rows: list, shape: list[int]) -> np.ndarray:
    """A mask from rows of digits; everything but "0" is foreground."""
    flat = [row for plane in rows for row in plane] if len(shape) == 3 else rows
    return np.array([[c != "0" for c in row] for row in flat]).reshape(shape)


def test_sdseg(tiny: Golden) -> None:
    facts = tiny.json("metrics")
    protocol, planes = build_protocol("sdseg", 16), []
    assert len(facts["dice_iou"]) == 18
    for entry in facts["dice_iou"]:
        pair = Pair(*(drawn(entry[key], entry["shape"]) for key in ("pred", "gt")))
        measured = values(protocol, pair)
        assert measured == {"Dice": entry["dice"], "IoU": entry["iou"]}, entry["name"]
        planes += [measured] if pair.reference.ndim == 2 else []
    for name, mean in (("Dice", "dice"), ("IoU", "iou")):
        expected = facts["dice_iou_mean_over_all_2d"][mean]
        assert np.mean([measured[name] for measured in planes]) == pytest.approx(expected, abs=1e-15)


def test_sdseg_on_its_evaluation_loop(tiny: Golden) -> None:
    stored, facts = tiny.tensors("eval256"), tiny.json("eval256")
    packed = {name: stored[name].numpy() for name in stored if name.endswith(".packed")}
    masks = {name.removesuffix(".packed"): np.unpackbits(bits, axis=-1) > 0 for name, bits in packed.items()}
    classes = {key: stored[f"eval_mc.{key}"].numpy() for key in ("pred", "labels")}
    pairs = {
        "eval_2d": list(zip(masks["eval_2d.pred"], masks["eval_2d.labels"], strict=True)),
        "eval_3d": [(masks["eval_3d.pred"], masks["eval_3d.labels"])],
        "eval_mc": [(classes["pred"] == label, classes["labels"] == label) for label in (1, 2, 3)],
    }
    for name, pairs_of in pairs.items():
        listed = [values(build_protocol("sdseg"), Pair(*pair)) for pair in pairs_of]
        assert [value["Dice"] for value in listed] == facts[name]["dice"], name
        assert [value["IoU"] for value in listed] == facts[name]["iou"], name


def test_medsegdiff() -> None:
    pairs, expected, limit = (
        MEDSEGDIFF.tensors("metric_pairs"),
        MEDSEGDIFF.json("metrics"),
        MEDSEGDIFF.tolerance["metrics"],
    )
    for entry in expected["pairs_48"]:
        pixels, target = (pairs[f"pairs48/{name}"][entry["index"]].numpy() for name in ("pred", "target"))
        if set(np.unique(target)) <= {0, 255}:
            pair = Pair(pixels > 127, target > 0, score=pixels.astype(np.float32) / 255)
            found = values(build_protocol("medsegdiff", 48), pair)
        else:
            found = {k: getattr(five_thresholds(pixels, target / np.float32(255)), k.lower()) for k in ("Dice", "IoU")}
        assert found["Dice"] == pytest.approx(entry["dice"], abs=limit), entry["name"]
        assert found["IoU"] == pytest.approx(entry["iou"], abs=limit), entry["name"]


@pytest.mark.parametrize("index", range(3))
def test_medsegdiff_resizes_references(index: int) -> None:
    pairs, entry = MEDSEGDIFF.tensors("metric_pairs"), MEDSEGDIFF.json("metrics")["pairs_resize"][index]
    target = soft_target(pairs[f"resize{index}/target"].numpy()[None], 256)[0]
    means = five_thresholds(pairs[f"resize{index}/pred"].numpy(), target)
    limit = MEDSEGDIFF.tolerance["metrics"]
    assert means.dice == pytest.approx(entry["antialias"]["dice"], abs=limit)
    assert means.iou == pytest.approx(entry["antialias"]["iou"], abs=limit)


@pytest.mark.parametrize(("name", "rule"), [("diff_unet", "test_rule"), ("diff_unet_validation", "train_rule")])
def test_diff_unet(name: str, rule: str) -> None:
    stored, protocol, facts = DIFF_UNET.tensors("metric_pairs"), build_protocol(name), DIFF_UNET.json("metrics")
    dices = []
    for entry in facts["pairs"]:
        predicted, reference = (stored[key][entry["index"]] > 0 for key in ("prediction_u8", "target_u8"))
        # The release brings its prediction to the reference's grid by nearest neighbour.
        grown = interpolate(predicted[None, None].float(), reference.shape, mode="nearest")[0, 0] > 0
        assert int(torch.count_nonzero(grown)) == entry["voxels_prediction_upsampled"]
        measured = values(protocol, Pair(grown.numpy(), reference.numpy(), (3.0, 0.8, 0.8)))
        expected = {k: math.nan if entry[rule][v] is None else entry[rule][v] for k, v in _KEYS.items()}
        limit = DIFF_UNET.tolerance["metrics"]
        assert measured == pytest.approx(expected, rel=0, abs=limit, nan_ok=True), entry["name"]
        dices.append(measured["Dice"])
    if name == "diff_unet":
        assert np.mean(dices) == pytest.approx(facts["mean_over_pairs"]["test_rule_dice"], abs=1e-12)


def test_ssformer() -> None:
    facts, protocol = SSFORMER.json("metrics")["test_script"], build_protocol("ssformer")
    stored, by_set = SSFORMER.tensors("metric_pairs"), {}
    for entry in facts["per_image"]:
        name = f"eval/{entry['set']}/{entry['index']}"
        predicted = SSFORMER.unpacked(f"{name}/prediction_packed", entry["size_hw"][1], "metric_pairs")
        pair = Pair(predicted, stored[f"{name}/gt"].numpy() == 255)
        assert (pair.n_prediction, pair.n_reference) == (entry["predicted_pixels"], entry["gt_pixels_counted"])
        (value,) = values(protocol, pair).values()
        expected = entry["released_mean_over_256_thresholds"]
        assert value == pytest.approx(expected, abs=SSFORMER.tolerance["metrics"]), name
        by_set.setdefault(entry["set"], []).append(value)
    means = [np.mean(by_set[name]) for name in facts["datasets"]]
    assert means == pytest.approx(facts["dataset_means_printed"], abs=SSFORMER.tolerance["metrics"])


_KEYS = {"Dice": "dice", "HD95": "hd95"}
