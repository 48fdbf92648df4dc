"""Explains one value of an experiment: where it was set, and what it means."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audiozen_core.binding.docstrings import parameter_docs, summary
from audiozen_core.binding.messages import type_text
from audiozen_core.config.check import check_component
from audiozen_core.config.checked import CheckedComponent
from audiozen_core.config.composition import Composition
from audiozen_core.config.load import LoadedConfig
from audiozen_core.config.renamed_keys import current_path
from audiozen_core.config.schema import KeySchema, key_at, known_keys
from audiozen_core.config.toml.emit import emit
from audiozen_core.diagnostics.key_path import KeyPath, parse_key_path, spell
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.diagnostics.toml_text import as_toml_value, toml_text
from audiozen_core.errors import AudioZenError


def explain(loaded: LoadedConfig, key: str) -> str:
    """Describes one key, such as `optimizer.args.lr`, with its value, origin, default, type and meaning.

    The key need not be set. The component that has the key is imported, because its docstring documents the key.

    Raises:
        AudioZenError: the key does not exist. The message suggests a similar key.
    """
    composition = loaded.composition
    try:
        place = composition.with_indices(current_path(parse_key_path(key)))
    except ValueError as error:
        raise AudioZenError(f"`{key}` is not a key: {error}", remedy="write a key like `optimizer.args.lr`") from error
    facts = _facts(loaded, place)
    try:
        value = composition.get(place)
    except LookupError:
        if facts is None:
            raise _unknown(composition, place) from None
        lines = [f"{spell(place)} is not set"]
    else:
        lines = [f"{spell(place)} = {_text(value)}", f"  set by    {composition.origin(place)}"]
        for origin, old in reversed(composition.replaced.get(place, ())):
            lines.append(f"  replaces  {_text(old)}, set by {origin}")
    lines += [f"  {name:<9} {fact}" for name, fact in (facts or {}).items() if fact]
    return "\n".join(lines)


def effective_toml(loaded: LoadedConfig) -> str:
    """Returns the effective config as TOML. Each value that a later layer replaced or added has a comment."""
    composition = loaded.composition
    first = _first_layer(composition)

    def comment(place: KeyPath) -> str:
        origin = composition.origins.get(place)
        if origin is None or isinstance(composition.get(place), dict):
            return ""
        words = [] if origin.key_span.file == first else [str(origin)]
        words += [f"was {_text(old)} in {before}" for before, old in composition.replaced.get(place, ())[-1:]]
        return ", ".join(words)

    return emit(composition.values, comment)


def _facts(loaded: LoadedConfig, place: KeyPath) -> dict[str, str] | None:
    """Returns what is known of the default, the type and the documentation of a key; None if the key is unknown."""
    if not place:
        return None
    key = key_at(place)
    if key is not None:
        return _facts_of_key(key, loaded, place)
    if place[-2:-1] == ("args",) and (checked := _checked_at(loaded, place[:-2])):
        return _facts_of_argument(checked, str(place[-1]))
    if place[-1] == "path" and (checked := _checked_at(loaded, place[:-1])):
        return {"what for": summary(checked.target)}
    return {} if place in loaded.composition.origins else None


def _checked_at(loaded: LoadedConfig, key: KeyPath) -> CheckedComponent | None:
    """Returns the component whose table is at a key path, such as a nested component; None if there is none."""
    around = [part for part in loaded.sections.components() if part.key == key[: len(part.key)]]
    if not around:
        return None
    # The table of a component can contain the table of another component, as a data set contains its collate function.
    # The innermost component has the longest key path.
    checked = check_component(loaded.composition, max(around, key=lambda part: len(part.key)))
    return next((inner for inner in checked.walk() if inner.component.key == key), None)


def _facts_of_key(key: KeySchema, loaded: LoadedConfig, place: KeyPath) -> dict[str, str]:
    facts = {}
    if not key.required and not isinstance(key.default, dict | list) and key.default is not None:
        facts["default"] = _text(key.default)
    doc = str(key.rules.get("doc", ""))
    checked = _checked_at(loaded, place[:-1]) if place[-1] == "path" else None
    if checked is not None and (what := summary(checked.target)):
        doc = f"{doc}; here: {what}"
    return {**facts, "type": type_text(key.type), "what for": doc}


def _facts_of_argument(checked: CheckedComponent, name: str) -> dict[str, str] | None:
    doc = parameter_docs(checked.target).get(name, "")
    parameter = checked.signature.get(name) if checked.signature else None
    if parameter is None:
        return {"what for": doc} if doc else None
    facts = {}
    if parameter.default is not inspect.Parameter.empty:
        facts["default"] = _text(parameter.default)
    if parameter.annotation is not inspect.Parameter.empty:
        facts["type"] = type_text(parameter.annotation)
    return {**facts, "what for": doc}


def _first_layer(composition: Composition) -> Path:
    """Returns the file that sets the most values. The other files are assumed to change only some of them."""
    files = Counter(origin.key_span.file for origin in composition.origins.values())
    return files.most_common(1)[0][0] if files else composition.main.file


def _unknown(composition: Composition, place: KeyPath) -> AudioZenError:
    above: Any = {}
    parent = place[:-1]
    try:
        above = composition.get(parent)
    except LookupError:
        return _unknown(composition, parent)
    names = [*above, *known_keys(parent)] if isinstance(above, Mapping) else []
    similar = nearest(str(place[-1]), names)
    known = f"its table has the keys {', '.join(map(str, dict.fromkeys(names)))}" if names else "its table is empty"
    remedy = did_you_mean(spell((*parent, similar)) if similar else None) or known
    return AudioZenError(f"the key `{spell(place)}` does not exist", remedy=remedy)


def _text(value: Any) -> str:
    """Formats a value, or an argument's default, as TOML. A value that TOML can't express is formatted as in Python."""
    try:
        return toml_text(as_toml_value(value))
    except TypeError:
        return str(value)
