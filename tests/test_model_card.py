"""The page beside saved weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sdseg.model_card import write_model_card

FACTS = {
    "title": "SDSeg on polyps",
    "license": "apache-2.0",
    "data_license": "CC BY 4.0",
    "tags": ["polyp", "line\nbreak: x"],
    "architecture": {"unet_widths": (32, 64), "heads": 8},
    "parameters": 412_791_319,
    "data": "CVC-ClinicDB, 612 frames",
    "split": {"train": 490, "val": 61, "test": 61},
    "protocol": "strict, per case",
    "scores": {"Dice": 0.912345, "HD95 | mm": {"mean": 3.5, "undefined": 2}},
    "recipe": {"steps": 100_000, "lr": 4e-5},
}


def card(folder: Path, **facts: object) -> tuple[dict, str]:
    write_model_card(folder, facts)
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


def test_every_fact_is_on_the_card(tmp_path: Path) -> None:
    front, text = card(tmp_path, **FACTS)
    assert front["license"] == "apache-2.0"
    assert front["pipeline_tag"] == "image-segmentation"
    assert {"sdseg", "polyp", "line\nbreak: x"} <= set(front["tags"])
    for line in (
        "# SDSeg on polyps",
        "| unet_widths | (32, 64) |",
        "Parameters: 412,791,319",
        "Data: CVC-ClinicDB, 612 frames",
        "| train | 490 |",
        "strict, per case",
        "| Dice | 0.9123 |",
        r"| HD95 \| mm | mean 3.5, undefined 2 |",
        "| steps | 100,000 |",
        "| lr | 4e-05 |",
        "Weights: apache-2.0",
        "Data: CC BY 4.0",
    ):
        assert line in text.splitlines()
    assert "research only" in text


def test_what_is_not_known_is_said_to_be_unknown(tmp_path: Path) -> None:
    front, text = card(tmp_path)
    assert front["license"] == "unknown"
    for heading in ("Protocol", "Scores", "Training recipe"):
        assert text.split(f"## {heading}\n\n")[1].startswith("Unknown.\n")
    for label in ("Data", "Split", "Weights", "Parameters"):
        assert f"{label}: unknown." in text.splitlines()
    assert not any(character.isdigit() for character in text)


def test_a_fact_without_a_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no place for dice; known are architecture"):
        write_model_card(tmp_path, {"dice": 0.9})
    assert not (tmp_path / "README.md").exists()
