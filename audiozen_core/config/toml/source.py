"""Finds lines and columns in a text, and makes findings about ranges of it."""

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
        file: the file that messages name, or a stand-in such as `--set`.
    """

    def __init__(self, text: str, file: Path) -> None:
        self.text = text
        self.file = file
        # Not `str.splitlines`, which also splits at U+2028 and other characters that TOML allows within a line.
        self.line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def line(self, number: int) -> str:
        """The text of a line, counted from 1, without its line end."""
        start = self.line_starts[number - 1]
        end = self.text.find("\n", start)
        return self.text[start : len(self.text) if end < 0 else end]

    def span(self, start: int, end: int) -> Span:
        """The span from one offset up to, but not including, another."""
        line, end_line = bisect_right(self.line_starts, start), bisect_right(self.line_starts, end)
        column, end_column = start - self.line_starts[line - 1] + 1, end - self.line_starts[end_line - 1] + 1
        return Span(self.file, line, column, end_line, end_column)

    def finding(self, code: str, message: str, span: Span, **more: Any) -> Diagnostic:
        """A finding about a span, with the span's first line of text, which is shown with the message."""
        return Diagnostic(code, message, span=span, source=self.line(span.line), **more)
