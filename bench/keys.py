"""What is wrong with a key, in one line: a key that nothing knows comes with a similar one and with those known."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from hydra.errors import OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from bench.declared import GROUPS, file_keys


def no_such_key(key: str, known: Iterable[str], rest: str = "", hint: str = "") -> str:
    """The line about a key whose last word none of its place is; `rest` follows it, `hint` is for one like no other."""
    place, dot, name = key.rpartition(".")
    names = sorted(known)
    own = place.rpartition(": ")[2]  # without the method's name before it
    near = [f"{own}{dot}{one}{rest} perhaps" for one in get_close_matches(name, names, 1)]
    there = f"known are {', '.join(names)}" if names else f"{place or 'this'} has none"
    return "; ".join([f"{key}{rest}: no such key", *(near or ([hint] if hint else [])), there])


def unknown_key(key: str, sections: Any) -> str:
    """The line about a key that a configuration does not have."""
    there, rest = 0, key.split(".")
    while len(rest) > 1 and isinstance(sections, Mapping) and rest[0] in sections:
        sections, there, rest = sections[rest[0]], there + len(rest[0]) + 1, rest[1:]
    known = sections if isinstance(sections, Mapping) else ()
    hint = "" if there else f"an option of a method is method.options.{rest[-1]}"
    end = there + len(rest[0])
    return no_such_key(key[:end], known, key[end:], hint)


def hydra_line(error: Exception, sections: Callable[[], Mapping[str, Any]] = dict) -> str:
    """What Hydra or OmegaConf says, in a line that names the key; `sections` gives what the configuration has."""
    text = str(error).split("Config search path")[0].split("See https")[0].replace("In 'config': ", "")
    full_key = match[1] if (match := re.search(r"full_key: (\S+)", text)) else ""
    if "Missing mandatory value" in text:
        key = full_key or text.split()[-1]
        return f"{key} must be given, for example {key}={'PATH' if _names_file(key, sections()) else 'VALUE'}"
    if choice := re.search(r"Could not find '(\w+)/([^']+)'.*?:(.*)", text, re.DOTALL):
        group, name, known = choice[1], choice[2], choice[3].split()
        near = get_close_matches(name, known, 3)
        names = f"{', '.join(near)} perhaps" if near else f"known are {', '.join(known)}"
        return f"{group}={name}: no such {group}; {names}; hydra.searchpath=[DIR] names a folder of yours"
    if isinstance(error, OverrideParseException):
        key, equals, _ = error.override.partition("=")
        remedy = f"quote text twice, \"{key}='TEXT'\"; a list is {key}=[a,b]" if equals else f"give {key}=VALUE"
        return f"{error.override}: Hydra cannot read this; {remedy}"
    if unknown := re.match(r"Could not override '([^']+)'", text):
        return unknown_key(unknown[1], sections())
    if unknown := re.match(r"Interpolation key '([^']+)' not found", text):
        return f"{full_key}=${{{unknown[1]}}}: {unknown_key(unknown[1], sections()).partition(': ')[2]}"
    return _plain_line(error, text)


def _names_file(key: str, sections: Mapping[str, Any]) -> bool:
    group = key.partition(".")[0]
    return group in GROUPS and key.rpartition(".")[2] in file_keys(group, sections.get(group))


def _plain_line(error: Exception, text: str) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OmegaConfBaseException):
        cause = cause.__cause__
    if cause is not None and str(cause) not in text:
        text += f": {str(cause).splitlines()[0]}"
    lines = (line.strip() for line in text.splitlines())
    return " ".join(x for x in lines if x and not x.startswith(("object_type", "reference_type", "full_key")))
