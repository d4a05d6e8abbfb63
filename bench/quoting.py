"""Overrides as people type them, made readable for Hydra: paths and expressions hold characters of its grammar."""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import lru_cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from bench.declared import GROUPS, file_keys


def quote_overrides(overrides: Iterable[str], sweep: bool = False) -> list[str]:
    """The overrides with quotes around values that Hydra could not read, or would read as something else.

    Lists, dictionaries, interpolations, `null` and quoted values stay. With `sweep` a comma separates jobs, unless the
    whole value names a path that exists. Quoting twice changes nothing.
    """
    return [_quoted(override, sweep) for override in overrides]


def _quoted(override: str, sweep: bool) -> str:
    key, equals, value = override.partition("=")
    if not equals or not value or value == "null" or key.startswith(("-", "~")):
        return override
    parsed = _parsed(value)
    if isinstance(parsed, QuotedString):
        return override
    exists, interpolates = os.path.exists(value), "${" in value
    if (parsed == value or interpolates) and not (exists and interpolates):
        return override
    is_text = key.lstrip("+").rpartition(".")[2] in _text_keys() and not (sweep and parsed is _SWEEP)
    if is_text or (exists and os.sep in value):
        return f"{key}={_literal(value)}"
    if parsed is not None:
        return override
    if value[0] + value[-1] == "[]":
        return f"{key}=[{','.join(_element(part) for part in _parts(value[1:-1]))}]"
    return override if value[0] in "{[" else f"{key}={_literal(value)}"


def _text_keys() -> frozenset[str]:
    """The last word of keys whose value is text whatever it looks like: a folder may be called 2024, or a,b."""
    return frozenset({"runs_dir", "group_regex"}).union(*map(file_keys, GROUPS))


_SWEEP = object()


@lru_cache(maxsize=4096)  # the cells of a matrix share most of theirs
def _parsed(value: str) -> object:
    """What Hydra makes of a value: None where it cannot read it, _SWEEP for several values."""
    try:
        override = OverridesParser.create().parse_override(f"key={value}")
    except HydraException:
        return None
    if override.is_sweep_override():
        return _SWEEP
    # A number or a null that is no text differs from its own spelling.
    return override._value if isinstance(override._value, (str, QuotedString)) else (override._value,)


def _literal(text: str) -> str:
    # OmegaConf reads interpolations inside quotes too.
    return QuotedString(text.replace("${", r"\${"), Quote.single).with_quotes()


def _element(text: str) -> str:
    text = text.strip()
    return _literal(text) if _parsed(text) is None and text[:1] not in ("'", '"', "[", "{") else text


def _parts(text: str) -> list[str]:
    """The text between the commas outside quotes and brackets."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        depth += (character in "[{(") - (character in ")}]") if not quote else 0
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return parts
