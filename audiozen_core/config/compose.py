"""Composes an experiment from its layers: the files that it extends, the file itself, the overrides."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audiozen_core.config.composition import Composition
from audiozen_core.config.overrides import apply_overrides
from audiozen_core.config.references import resolve_references
from audiozen_core.config.renamed_keys import Layer
from audiozen_core.config.toml.document import Document
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.errors import ConfigError

MAX_FILES = 50


def compose(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> Composition:
    """Reads a file and the files that it extends, applies the overrides and replaces the references.

    Args:
        path: the TOML file of an experiment.
        overrides: each `key=value`, or `+key=value` to add a key; see `overrides`.
        environment: the variables for `${env:…}` (default: those of the process).

    Returns:
        The values; mistakes in them are in `findings`.

    Raises:
        ConfigError: if the file, or one that it extends, can't be read.
    """
    main = Document.read(path)
    composition = Composition(main)
    stack = _FileStack(composition)
    stack.add(main)
    if stack.failures:
        raise ConfigError(stack.failures)
    apply_overrides(composition, overrides)
    resolve_references(composition, environment)
    return composition


class _FileStack:
    """Merges files, each on top of the files that it extends."""

    def __init__(self, composition: Composition) -> None:
        self.composition = composition
        self.failures: list[Diagnostic] = []
        self.chain: list[Document] = []
        self.count = 0

    def add(self, document: Document) -> None:
        self.chain.append(document)
        for place, name in self.bases(document):
            self.add_base(document, place, name)
        self.chain.pop()
        layer = Layer.of(document)
        layer.values.pop("extends", None)
        self.composition.merge(layer)

    def bases(self, document: Document) -> list[tuple[KeyPath, str]]:
        """The files that `extends` names, each with the key path of its name."""
        value: Any = document.values.get("extends", [])
        named = [(("extends",), value)] if not isinstance(value, list) else _entries(value)
        bases = []
        for place, name in named:
            if isinstance(name, str):
                bases.append((place, name))
            else:
                self.fail(document, place, "`extends` takes the name of a TOML file, or an array of names")
        return bases

    def add_base(self, document: Document, place: KeyPath, name: str) -> None:
        path = Path(os.path.normpath(document.folder / name))
        files = [_identity(link.file) for link in self.chain]
        if _identity(path) in files:
            circle = [*self.chain[files.index(_identity(path)) :], self.chain[files.index(_identity(path))]]
            names = " → ".join(f"`{link.file}`" for link in circle)
            self.fail(document, place, f"files that extend each other in a circle: {names}")
            return
        self.count += 1
        if self.count > MAX_FILES:
            self.fail(document, place, f"more than {MAX_FILES} files are extended")
            return
        try:
            base = Document.read(path)
        except ConfigError as error:
            self.failures += [self.placed(document, place, finding) for finding in error.diagnostics]
            return
        self.add(base)

    def placed(self, document: Document, place: KeyPath, finding: Diagnostic) -> Diagnostic:
        """Gives a finding about a whole file the place where the file is named."""
        if finding.span:
            return finding
        span = document.value_span(place)
        return document.source.finding(config_codes.BAD_EXTENDS, finding.message, span, notes=finding.notes)

    def fail(self, document: Document, place: KeyPath, message: str) -> None:
        # One message about the limit is enough.
        if self.count <= MAX_FILES + 1:
            finding = document.source.finding(config_codes.BAD_EXTENDS, message, document.value_span(place))
            self.failures.append(finding)


def _entries(values: list[Any]) -> list[tuple[KeyPath, Any]]:
    return [(("extends", index), value) for index, value in enumerate(values)]


def _identity(file: Path) -> str:
    return os.path.realpath(file)
