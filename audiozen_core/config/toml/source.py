"""Finds lines and columns in a text, and makes findings about parts of the text."""

from __future__ import annotations

import re
from bisect import bisect_right
from pathlib import Path
from typing import Any

from audiozen_core.diagnostics.diagnostic import Diagnostic, Span


class Source:
    r"""Turns character offsets of a text into lines and columns.

    Args:
        text: the text, with `\n` at the end of each line.
        file: the file name in messages, or a label such as `--set`.
    """

    def __init__(self, text: str, file: Path) -> None:
        self.text = text
        self.file = file
        # Not `str.splitlines`, which also splits at U+2028 and other characters that TOML allows within a line.
        self.line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def line(self, number: int) -> str:
        """Returns the text of a line without the line break. The first line has number 1."""
        start = self.line_starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start : len(self.text) if end < 0 else end]

    def span(self, start: int, end: int) -> Span:
        """Returns the span from the offset `start` up to, but not including, `end`."""
        line, end_line = bisect_right(self.line_starts, start), bisect_right(self.line_starts, end)
        column, end_column = start - self.line_starts[line - 1] + 1, end - self.line_starts[end_line - 1] + 1
        return Span(self.file, line, column, end_line, end_column)

    def finding(self, code: str, message: str, span: Span, **more: Any) -> Diagnostic:
        """Makes a finding about a span. Messages show the span's first line of text."""
        return Diagnostic(code, message, span=span, source=self.line(span.line), **more)
