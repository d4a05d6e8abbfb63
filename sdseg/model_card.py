"""The page beside saved weights: what they are, what they were trained on, how they scored, what they are not for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdseg.files import write_atomically

_UNKNOWN = "Unknown."
_TAGS = ("medical-image-segmentation", "latent-diffusion", "sdseg")
_LIMITATIONS = (
    "For research only: not a medical device, not validated for diagnosis or treatment. Scores hold for data like "
    "that above; other scanners, sites or populations need a test of their own."
)
_SECTIONS = (
    ("Model", ("architecture", "parameters", "weights", "source")),
    ("Data", ("data", "split")),
    ("Protocol", ("protocol",)),
    ("Scores", ("scores",)),
    ("Training recipe", ("recipe",)),
    ("Licence", ("license", "data_license")),
)
_LABELS = {"license": "weights", "data_license": "data"}


def write_model_card(folder: Path | str, facts: Mapping[str, Any]) -> None:
    """Write `README.md` beside the weights, with front matter as model hubs read it.

    Known facts: title, license, data_license, tags, architecture, parameters, weights, source, data, split, protocol,
    scores, recipe, limitations; text, numbers, or mappings, which become tables. What is not given is said to be
    unknown. Raises ValueError for a fact that has no place on the card.
    """
    known = {"title", "tags", "limitations", *(name for _, names in _SECTIONS for name in names)}
    if strangers := sorted(set(facts) - known):
        raise ValueError(f"model card: no place for {', '.join(strangers)}; known are {', '.join(sorted(known))}")
    parts = [_front_matter(facts), f"# {facts.get('title', 'SDSeg')}"]
    for heading, names in _SECTIONS:
        parts.append(f"## {heading}\n\n" + "\n\n".join(_fact(name, names, facts) for name in names))
    parts.append(f"## Limitations\n\n{facts.get('limitations', _LIMITATIONS)}")
    text = "\n\n".join(parts) + "\n"
    write_atomically(Path(folder) / "README.md", lambda path: path.write_text(text, encoding="utf-8"))


def _front_matter(facts: Mapping[str, Any]) -> str:
    # Strings as JSON, which YAML reads too, so that no value can break out of its line.
    tags = "".join(f"\n- {json.dumps(str(tag))}" for tag in dict.fromkeys([*_TAGS, *facts.get("tags", ())]))
    license_id = json.dumps(str(facts.get("license") or "unknown"))
    return f"---\nlicense: {license_id}\npipeline_tag: image-segmentation\ntags:{tags}\n---"


def _fact(name: str, names: tuple[str, ...], facts: Mapping[str, Any]) -> str:
    label = f"{_LABELS.get(name, name).capitalize()}: " if len(names) > 1 else ""
    value = facts.get(name)
    if value is None or value == "" or value == {}:
        return f"{label}{_UNKNOWN if not label else 'unknown.'}"
    if isinstance(value, Mapping):
        rows = "".join(f"\n| {_cell(key)} | {_cell(item)} |" for key, item in value.items())
        return f"{label.strip()}\n\n| | |\n|---|---|{rows}".strip()
    return f"{label}{_text(value)}"


def _cell(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(item)}" for key, item in value.items())
    return _text(value).replace("|", "\\|").replace("\n", " ")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value >= 10_000 else str(value)
