"""Sections and arguments that were renamed, or that have an alias."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audiozen_core.config.toml.document import Document
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.key_path import KeyPath, spell
from audiozen_core.diagnostics.suggestions import nearest

# Names of earlier versions, and their names today. A section keeps its suffix (`loss_d`).
RENAMED_SECTIONS = {"loss": "loss_function", "validation_dataset": "validate_dataset"}
RENAMED_ARGUMENTS: dict[KeyPath, str] = {
    ("trainer", "args", "max_epoch"): "max_epochs",
    ("trainer", "args", "max_grad_norm"): "clip_grad_norm_value",
    ("trainer", "args", "max_patience"): "patience",
}
# Aliases that cause no warning, and the names that AudioZEN uses.
SECTION_ALIASES = {"train_dataset": "dataset"}

_SUFFIXED_LOSS = re.compile(r"loss_(?P<suffix>.+)")


def current_name(parent: KeyPath, key: str) -> str:
    """The current name of a key; `parent` is the key path of its table, in current names.

    Example:
        >>> current_name((), "loss"), current_name((), "loss_d"), current_name(("trainer", "args"), "max_epoch")
        ('loss_function', 'loss_function_d', 'max_epochs')
        >>> current_name(("meta",), "loss")
        'loss'
    """
    if parent:
        return RENAMED_ARGUMENTS.get((*parent, key), key)
    match = _SUFFIXED_LOSS.fullmatch(key)
    # `loss_functoin` is a misspelt `loss_function`, not the loss of a net called `functoin`.
    if match and not key.startswith("loss_function") and not nearest(key, ["loss_function"]):
        return f"loss_function_{match['suffix']}"
    return RENAMED_SECTIONS.get(key) or SECTION_ALIASES.get(key, key)


def current_path(key_path: KeyPath) -> KeyPath:
    """The key path in current names."""
    current: KeyPath = ()
    for part in key_path:
        current = (*current, current_name(current, part) if isinstance(part, str) else part)
    return current


def was_renamed(parent: KeyPath, key: str) -> bool:
    """Whether the key has a new name that the user should be told."""
    return current_name(parent, key) != key and not (not parent and key in SECTION_ALIASES)


def renamed_key_warning(document: Document, key_path: KeyPath, new: str) -> Diagnostic:
    """The warning about an old name."""
    span = document.key_span(key_path)
    old = key_path[-1]
    message = f"`{old}` is the old name of `{new}`"
    return document.source.finding(
        config_codes.OLD_SPELLING, message, span, severity="warning", label=f"write `{new}`", suggestion=new
    )


@dataclass(slots=True)
class Layer:
    """The values of one document in current names.

    Attributes:
        document: the document.
        values: its values; tables and arrays are copies.
        written: for the key path of each value, its key path as written in the document.
        findings: old names, and keys that are given under two names.
    """

    document: Document
    values: dict[str, Any] = field(default_factory=dict)
    written: dict[KeyPath, KeyPath] = field(default_factory=dict)
    findings: list[Diagnostic] = field(default_factory=list)

    @classmethod
    def of(cls, document: Document) -> Layer:
        """The layer of a document."""
        layer = cls(document)
        layer.values = layer._table((), (), document.values)
        return layer

    def add(self, key_path: KeyPath, written: KeyPath, value: Any) -> Any:
        """The value in current names; it goes to `key_path`, and stands at `written` in the document."""
        return self._value(key_path, written, value)

    def _table(self, current: KeyPath, written: KeyPath, table: Mapping[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in table.items():
            name = current_name(current, key)
            if name != key and was_renamed(current, key):
                self.findings.append(renamed_key_warning(self.document, (*written, key), name))
            if name in result:
                self.findings.append(self._duplicate_name((*written, key), self.written[(*current, name)]))
            else:
                result[name] = self._value((*current, name), (*written, key), value)
        return result

    def _value(self, current: KeyPath, written: KeyPath, value: Any) -> Any:
        self.written[current] = written
        if isinstance(value, dict):
            return self._table(current, written, value)
        if isinstance(value, list):
            return [self._value((*current, index), (*written, index), entry) for index, entry in enumerate(value)]
        return value

    def _duplicate_name(self, written: KeyPath, first: KeyPath) -> Diagnostic:
        span, earlier = self.document.key_span(written), self.document.key_span(first)
        return self.document.source.finding(
            config_codes.TWO_SPELLINGS,
            f"`{spell(written)}` and `{spell(first)}` are two names of one thing",
            span,
            label="keep one of them",
            notes=(f"first: {earlier.file}:{earlier.line}:{earlier.column}",),
        )
