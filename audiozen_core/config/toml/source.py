"""Converts offsets in a TOML document to lines and columns, and creates findings about parts of the document."""

from __future__ import annotations

import re
from bisect import bisect_right
from pathlib import Path
from typing import Any

from audiozen_core.diagnostics.diagnostic import Diagnostic, Span


class Source:
    r"""Converts character offsets in a text to lines and columns.

    Args:
        text: the text, with `\n` at the end of each line.
        file: the file name in messages, or a label such as `--set`.
    """

    def __init__(self, text: str, file: Path) -> None:
        self.text = text
        self.file = file
        # `str.splitlines` would also split at U+2028 and other characters that TOML allows within a line.
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
        """Creates a finding about a span. When the finding is printed, it shows the first line of the span."""
        return Diagnostic(code, message, span=span, source=self.line(span.line), **more)
