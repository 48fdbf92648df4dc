"""Reads the values of a TOML file with tomli, and their positions with the module `positions`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from audiozen_core.config.toml.positions import MAX_DEPTH, Positions, TextRange, TooDeepError, find_positions
from audiozen_core.config.toml.source import Source
from audiozen_core.config.toml.syntax_errors import explain_syntax_error
from audiozen_core.config.toml.text_file import read_text
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Span
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.errors import ConfigError


@dataclass(frozen=True)
class Document:
    """The text and the values of a TOML file, and the positions of its keys and values in the text.

    Attributes:
        source: the text of the file, and its path as the user wrote it.
        values: the values, as tomli reads them.
        positions: the offsets of the keys and the values in the text.
        folder: the folder that relative paths in the document and `${here}` refer to.
    """

    source: Source
    values: Mapping[str, Any]
    positions: Positions
    folder: Path

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Document:
        """Reads a file.

        Raises:
            ConfigError: the file can't be read, is not valid TOML in UTF-8, or is empty. The findings have positions.
        """
        file = Path(path)
        document = cls.parse(read_text(file), file)
        if not document.values:
            message = f"`{file}` is empty, or has only blanks and comments"
            notes = ("help: `audiozen new recipe` writes a TOML file to start from",)
            raise ConfigError([Diagnostic(config_codes.EMPTY, message, notes=notes)])
        return document

    @classmethod
    def parse(cls, text: str, file: Path) -> Document:
        r"""Parses the text of a TOML file.

        Args:
            text: the text.
            file: the path that error messages show. Nothing is read from it.

        Raises:
            ConfigError: the text is not valid TOML.

        Example:
            >>> document = Document.parse("[optimizer]\nargs.lr = 0.1", Path("a.toml"))
            >>> span = document.value_span(("optimizer", "args", "lr"))
            >>> span.line, span.column, span.end_column
            (2, 11, 14)
        """
        source = Source(text.replace("\r\n", "\n"), file)
        try:
            positions = find_positions(source.text)
        except TooDeepError as deep:
            offset: int = deep.args[0]
            message = f"tables and arrays are nested more than {MAX_DEPTH} levels deep here"
            span = source.span(offset, offset + 1)
            notes = ("help: use fewer tables and arrays within each other",)
            raise ConfigError([source.finding(config_codes.TOO_DEEP, message, span, notes=notes)]) from None
        try:
            values = tomli.loads(source.text)
        except ValueError as error:
            raise ConfigError(explain_syntax_error(error, source, positions)) from None
        return cls(source, values, positions, file.parent)

    @property
    def file(self) -> Path:
        """The path of the file as the user wrote it."""
        return self.source.file

    def key_span(self, key_path: KeyPath) -> Span:
        """Returns the position of a key or an array entry.

        If the document does not contain the key, this is the position of the innermost table on its path that exists.
        """
        return self._span(self.positions.keys, key_path)

    def value_span(self, key_path: KeyPath) -> Span:
        """Returns the position of a value or of a table's header.

        If the document does not contain the value, this is the position of the innermost table on its path that exists.
        """
        return self._span(self.positions.values, key_path)

    def value_range(self, key_path: KeyPath) -> TextRange:
        """Returns the position of a value as character offsets (start, end)."""
        return self._range(self.positions.values, key_path)

    def _span(self, ranges: Mapping[KeyPath, TextRange], key_path: KeyPath) -> Span:
        return self.source.span(*self._range(ranges, key_path))

    def _range(self, ranges: Mapping[KeyPath, TextRange], key_path: KeyPath) -> TextRange:
        while key_path and key_path not in ranges:
            key_path = key_path[:-1]
        return ranges.get(key_path, (0, 0))
