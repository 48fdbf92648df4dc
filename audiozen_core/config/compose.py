"""Composes an experiment from its layers: the files that it extends, the file itself, and the overrides."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from audiozen_core.config.composition import Composition, values_below
from audiozen_core.config.overrides import Overrides, apply_overrides
from audiozen_core.config.references import resolve_references
from audiozen_core.config.renamed_keys import OLD_SETTINGS, is_old_value
from audiozen_core.config.toml.document import Document
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.key_path import KeyPath, spell
from audiozen_core.diagnostics.printable import is_printable
from audiozen_core.errors import ConfigError

# If each file extends the next file twice, the number doubles with each file, and thirty files would never be merged.
# Experiments written by hand have about ten.
_MAX_FILES = 500


def compose(
    path: str | os.PathLike[str] | Document, overrides: Overrides = (), environment: Mapping[str, str] | None = None
) -> Composition:
    """Reads a file and the files that it extends, applies the overrides, and replaces the references.

    Mistakes in the values do not raise an error. They are added to the findings of the composition.

    Args:
        path: the TOML file of an experiment, or its contents.
        overrides: a list of strings, `key=value` to change a key and `+key=value` to add a key; or a mapping from keys
            to values.
        environment: the variables for `${env:…}` (default: the environment of the process).

    Raises:
        ConfigError: the file, or a file that it extends, can't be read.
    """
    main = path if isinstance(path, Document) else Document.read(path)
    composition = Composition(main)
    if failures := _merge(composition, [main], count(1)):
        raise ConfigError(failures)
    apply_overrides(composition, overrides)
    resolve_references(composition, environment)
    composition.findings += _not_utf8(composition)
    for key_path, (advice, values) in OLD_SETTINGS.items():
        if key_path in composition.origins and is_old_value(composition.get(key_path), values):
            dropped = composition.drop_old_setting(key_path, advice)
            # A setting that is ignored needs only one warning, so remove the warning about the old name of the setting.
            composition.findings = [found for found in composition.findings if found.span != dropped.span]
            composition.findings.append(dropped)
    return composition


def _not_utf8(composition: Composition) -> Iterator[Diagnostic]:
    """Yields an error for each string that is not valid UTF-8, such as a path from `--set`, `${env:…}` or `${here}`.

    The run folder keeps the effective config as a TOML file, which must be UTF-8.
    """
    for place, value in values_below(composition.values, ()):
        if not all(is_printable(text) for text in (value, *place) if isinstance(text, str)):
            message = f"`{spell(place)}` has bytes that are not UTF-8, which a TOML file can't hold"
            notes = ("help: rename the folder or file, or use a symbolic link to it: ln -s OLD NEW",)
            yield composition.finding(config_codes.NOT_UTF8, message, place, notes=notes)


def _merge(composition: Composition, chain: list[Document], number: Iterator[int]) -> list[Diagnostic]:
    """Merges the files that the last document of the chain extends, and then the last document itself on top of them.

    Each document of the chain extends the next document. `number` counts the files. Returns the findings about files
    that can't be read.

    Raises:
        ConfigError: more than `_MAX_FILES` files are merged. A file counts each time that another file extends it.
    """
    document = chain[-1]
    failures = []
    for place, name in _bases(document):
        if next(number) > _MAX_FILES:
            message = f"more than {_MAX_FILES:,} files are extended; files that are extended repeatedly count each time"
            notes = ("help: extend each file only once",)
            raise ConfigError([_placed(document, place, Diagnostic(config_codes.BAD_EXTENDS, message, notes=notes))])
        try:
            base = _read_base(name, chain)
        except ConfigError as error:
            failures += [_placed(document, place, finding) for finding in error.diagnostics]
        else:
            failures += _merge(composition, [*chain, base], number)
    composition.merge(document)
    return failures


def _bases(document: Document) -> list[tuple[KeyPath, Any]]:
    """Returns the entries of `extends`, each with its key path."""
    value = document.values.get("extends", [])
    if isinstance(value, list):
        return [(("extends", index), entry) for index, entry in enumerate(value)]
    return [(("extends",), value)]


def _read_base(name: Any, chain: list[Document]) -> Document:
    if not isinstance(name, str):
        message = "`extends` takes the name of a TOML file, or an array of names"
        notes = ('help: write `extends = "base.toml"`',)
        raise ConfigError([Diagnostic(config_codes.BAD_EXTENDS, message, notes=notes)])
    path = Path(os.path.normpath(chain[-1].folder / name))
    files = [os.path.realpath(link.file) for link in chain]
    if os.path.realpath(path) in files:
        first = files.index(os.path.realpath(path))
        names = " → ".join(f"`{link.file}`" for link in [*chain[first:], chain[first]])
        message = f"these files extend each other in a circle: {names}"
        notes = ("help: remove `extends` from one of them",)
        raise ConfigError([Diagnostic(config_codes.BAD_EXTENDS, message, notes=notes)])
    return Document.read(path)


def _placed(document: Document, place: KeyPath, finding: Diagnostic) -> Diagnostic:
    """Places a finding about a whole file at the entry of `extends` that names the file."""
    if finding.span:
        return finding
    span = document.value_span(place)
    return document.source.finding(config_codes.BAD_EXTENDS, finding.message, span, notes=finding.notes)
