"""Applies the overrides of the command line: `--set optimizer.args.lr=3e-4`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.config.composition import Composition, Origin
from audiozen_core.config.renamed_keys import current_name
from audiozen_core.config.schema import known_keys
from audiozen_core.config.toml.document import Document
from audiozen_core.config.toml.positions import MAX_DEPTH, Positions, TextRange
from audiozen_core.config.toml.source import Source
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.key_path import KeyPath, as_index, match_key_path, spell
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.diagnostics.toml_text import as_toml_value, toml_text
from audiozen_core.errors import ConfigError

# Messages show this path as the file name of an override, and the number of the override, from 1, as the line number.
COMMAND_LINE = Path("--set")

_FORM = "help: the form is `--set key=value`, such as `--set optimizer.args.lr=3e-4`"


Overrides = Sequence[str] | Mapping[str, Any]
"""A list of overrides as on the command line, or a mapping from keys to values: `{"optimizer.args.lr": 3e-4}`."""


@dataclass(frozen=True, slots=True)
class _Override:
    """One `--set key=value`. `adds` is True for `--set +key=value`.

    The ranges are character offsets in a text with one line for each override.
    """

    key: KeyPath
    value: Any
    adds: bool
    key_ranges: tuple[TextRange, ...]
    value_range: TextRange


def as_assignments(overrides: Overrides) -> list[str]:
    """Returns the overrides as strings in the form `key=value`, as on the command line.

    Raises:
        ConfigError: `overrides` is a string, a key is not a valid key path, or a value can't be written as TOML.
    """
    if isinstance(overrides, str):
        notes = (f"help: write a list, `[{toml_text(overrides)}]`, or a mapping from keys to values",)
        raise ConfigError([Diagnostic(config_codes.BAD_OVERRIDE, "`overrides` is a string, not a list", notes=notes)])
    if isinstance(overrides, Mapping):
        return [_written(key, value) for key, value in overrides.items()]
    return list(overrides)


def _written(key: str, value: Any) -> str:
    try:
        # If a key contained `=` or a line break, a part of the key would be read as the value.
        complete = "\n" not in key and match_key_path(key, int(key.startswith("+")))[1] == len(key)
    except ValueError:
        complete = False
    if not complete:
        notes = ('help: a key is written as in `{"optimizer.args.lr": 3e-4}`',)
        message = f"the override has no valid key: {key!r}"
        raise ConfigError([Diagnostic(config_codes.BAD_OVERRIDE, message, notes=notes)])
    try:
        return f"{key}={toml_text(as_toml_value(value))}"
    except TypeError as error:
        message = f"the override of `{key}` can't be written as TOML: {error}"
        notes = ("help: use numbers, booleans, strings, paths, lists and dicts of these; convert others first",)
        raise ConfigError([Diagnostic(config_codes.BAD_OVERRIDE, message, notes=notes)]) from None


class _BadOverrideError(Exception):
    """An override that can't be read. Its arguments are a message and a character range."""


def apply_overrides(composition: Composition, overrides: Overrides) -> None:
    """Applies the overrides on top of the files, and reports the overrides that can't be applied."""
    overrides = as_assignments(overrides)
    source = Source("\n".join(overrides), COMMAND_LINE)
    document = Document(source, {}, Positions(), composition.main.folder)
    start = 0
    read = []
    for text in overrides:
        try:
            read.append(_read(text, start))
        except _BadOverrideError as error:
            message, place = error.args
            finding = source.finding(config_codes.BAD_OVERRIDE, message, source.span(*place), notes=(_FORM,))
            composition.findings.append(finding)
        start += len(text) + 1
    # A new `path` drops the arguments of the old component, so each `path` is applied before the arguments.
    for override in sorted(read, key=lambda override: override.key[-1] != "path"):
        _apply(composition, document, override)


# ---------------------------------------------------------------------------------------------- reading


def _read(text: str, start: int) -> _Override:
    whole = (start, start + len(text))
    adds = text.startswith("+")
    try:
        parts, end = match_key_path(text, int(adds))
    except ValueError:
        raise _BadOverrideError(f"the override `{text}` has no valid key", whole) from None
    if not text.startswith("=", end):
        reason = "has no `=`" if "=" not in text else "has a key that can't be read"
        raise _BadOverrideError(f"the override `{text}` {reason}", whole)
    if len(parts) >= MAX_DEPTH:
        raise _BadOverrideError(f"the key of the override is {len(parts)} levels deep, which is too deep", whole)
    key_ranges = tuple((start + first, start + last) for _, (first, last) in parts)
    blanks = len(text[end + 1 :]) - len(text[end + 1 :].lstrip())
    value_range = (start + end + 1 + blanks, start + len(text))
    value = _read_value(text[end + 1 :].strip(), value_range)
    return _Override(tuple(part for part, _ in parts), value, adds, key_ranges, value_range)


def _read_value(text: str, place: TextRange) -> Any:
    """Reads a value as TOML. Text that is not valid TOML is read as a string without quotes."""
    try:
        values = Document.parse(f"value = {text}", COMMAND_LINE).values
    except ConfigError as error:
        if not text:
            raise _BadOverrideError('the override has no value; an empty string is `""`', place) from None
        if text[0] in "[{\"'":
            raise _BadOverrideError(f"the value can't be read: {error.diagnostics[0].message}", place) from None
        return text
    # Text with a line break may be valid TOML with several keys. Such text is read as a string, too.
    return values["value"] if len(values) == 1 else text


# ---------------------------------------------------------------------------------------------- applying


def _apply(composition: Composition, document: Document, override: _Override) -> None:
    path: KeyPath = ()
    for index, part in enumerate(override.key):
        written = override.key[: index + 1]
        document.positions.keys[written] = document.positions.values[written] = override.key_ranges[index]
        last = index + 1 == len(override.key)
        step = _resolve_part(_existing(composition, path), part, path, may_add=override.adds, last=last)
        if step is None:
            composition.findings.append(_unknown_key(composition, document, override, path, written))
            return
        path = (*path, step)
    document.positions.values[override.key] = override.value_range
    composition.set_value(path, override.value, Origin(document, override.key))


def _existing(composition: Composition, path: KeyPath) -> Any:
    """Returns the value at a key path, or an empty table if the key path has no value."""
    try:
        return composition.get(path)
    except LookupError:
        return {}


def _resolve_part(container: Any, part: str | int, path: KeyPath, *, may_add: bool, last: bool) -> str | int | None:
    """Returns the key or index in a container for one part of a key path; None if the container lacks it."""
    if isinstance(container, list):
        index = as_index(part)
        return index if index is not None and index < len(container) + (may_add and last) else None
    if not isinstance(container, dict) or isinstance(part, int):
        return None
    name = current_name(path, part)
    return name if may_add or name in container or name in known_keys(path) else None


def _unknown_key(
    composition: Composition, document: Document, override: _Override, path: KeyPath, written: KeyPath
) -> Diagnostic:
    container, part = _existing(composition, path), written[-1]
    above = spell(written[:-1])
    similar = None
    notes: tuple[str, ...] = ()
    if isinstance(container, list):
        message = f"`{spell(written)}` does not exist: `{above}` has {len(container)} entries"
    elif not isinstance(container, dict):
        message = f"`{spell(written)}` does not exist: `{above}` is not a table"
    else:
        message = f"`{spell(written)}` does not exist, so it can't be overridden"
        similar = nearest(str(part), [*container, *known_keys(path)])
        notes = (f"help: `--set +{spell(override.key)}=…` adds a new key",)
    return document.source.finding(
        config_codes.UNKNOWN_OVERRIDE,
        message,
        document.key_span(written),
        label=did_you_mean(similar),
        suggestion=similar,
        notes=notes,
    )
