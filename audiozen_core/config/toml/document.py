"""A TOML file as values, each with its place. The values are tomli's; the places are those of `spans`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from audiozen_core.config.toml.positions import NotTomlError, Places, Range, TooDeepError, find_places
from audiozen_core.config.toml.source import Source
from audiozen_core.config.toml.syntax_errors import explain, explain_too_deep
from audiozen_core.config.toml.text_file import read_text
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Span
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.errors import ConfigError


@dataclass(frozen=True)
class Document:
    """A TOML document and the places of its keys and values.

    Attributes:
        source: the text, and the file as the user named it.
        values: what tomli reads in it.
        places: the offsets of keys and values in the text.
        folder: the folder that its relative paths start from, and its `${here}`.
    """

    source: Source
    values: Mapping[str, Any]
    places: Places
    folder: Path

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Document:
        """Reads a file.

        Raises:
            ConfigError: if there is no such file, or it is not TOML in UTF-8; the places are in the findings.
        """
        file = Path(path)
        document = cls.parse(read_text(file), file)
        if not document.values:
            raise ConfigError([Diagnostic(config_codes.EMPTY, f"`{file}` holds no key, only blanks or comments")])
        return document

    @classmethod
    def parse(cls, text: str, file: Path) -> Document:
        r"""Reads a text; `file` is where findings will say that it comes from.

        Raises:
            ConfigError: if the text is not TOML.

        Example:
            >>> document = Document.parse("[optimizer]\nargs.lr = 0.1", Path("a.toml"))
            >>> span = document.value_span(("optimizer", "args", "lr"))
            >>> span.line, span.column, span.end_column
            (2, 11, 14)
        """
        source = Source(text.replace("\r\n", "\n"), file)
        try:
            places = find_places(source.text)
        except TooDeepError as deep:
            raise ConfigError([explain_too_deep(source, deep.args[0])]) from None
        except NotTomlError as error:
            places = error.args[0]
        try:
            values = tomli.loads(source.text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(explain(error, source, places)) from None
        return cls(source, values, places, file.parent)

    @property
    def file(self) -> Path:
        """The file as the user named it."""
        return self.source.file

    def key_span(self, key_path: KeyPath) -> Span:
        """Where the key stands; of an entry of an array, the entry. Of a key that is not there, the nearest above."""
        return self._span(self.places.keys, key_path)

    def value_span(self, key_path: KeyPath) -> Span:
        """Where the value stands; of a table, its header. Of a value that is not there, the nearest above."""
        return self._span(self.places.values, key_path)

    def line(self, number: int) -> str:
        """The text of a line, counted from 1, without its line end."""
        return self.source.line(number)

    def value_range(self, key_path: KeyPath) -> Range:
        """Where the value stands, as character offsets."""
        return self._range(self.places.values, key_path)

    def _span(self, ranges: Mapping[KeyPath, Range], key_path: KeyPath) -> Span:
        return self.source.span(*self._range(ranges, key_path))

    def _range(self, ranges: Mapping[KeyPath, Range], key_path: KeyPath) -> Range:
        while key_path and key_path not in ranges:
            key_path = key_path[:-1]
        return ranges.get(key_path, (0, 0))
