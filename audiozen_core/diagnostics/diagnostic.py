"""The dataclass `Diagnostic`, which describes a problem, its position and a remedy, and its rendering as text.

Every error that a user can fix has one or more `Diagnostic`s. `render` formats a `Diagnostic` for a terminal. The
checks of arguments, hooks and installed plugins also return `Diagnostic`s. These checks do not know the TOML file, so
their `Diagnostic`s have no `span`, and the caller adds the `span`.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from audiozen_core.diagnostics.key_path import KeyPath

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A part of a text file. Lines and columns count from 1, columns count characters, and the end is exclusive."""

    file: Path
    line: int
    column: int
    end_line: int
    end_column: int


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding about the user's input.

    Attributes:
        code: the stable code of this kind of finding, such as `AZ101`.
        message: the problem, in one line, with names in backticks.
        severity: `error` stops the command, `warning` does not.
        span: the position in a file; None if the finding is not about a file.
        source: the text of the first line of the span.
        label: the text at the caret, such as "did you mean `weight_decay`?".
        suggestion: the text that should replace the text in the span, if known.
        notes: additional lines, each in the form "kind: text", such as "signature: RAdam(params, lr=0.001)".
        place: the key path within the checked component, such as `("args", "betas", 1)`. The caller knows the position
            of the component in the file, and derives the `span` from it.
        at: whether the finding is about the key at `place` or about its value.
    """

    code: str
    message: str
    severity: Severity = "error"
    span: Span | None = None
    source: str = ""
    label: str = ""
    suggestion: str | None = None
    notes: tuple[str, ...] = ()
    place: KeyPath = ()
    at: Literal["key", "value"] = "value"


_COLOURS = {"error": "1;31", "warning": "1;33", "place": "1;34", "bold": "1"}
# If a line is longer than `_WIDTH`, only a part is shown, from `_BEFORE` characters before the caret.
_WIDTH = 120
_BEFORE = 40


Finding = tuple[Diagnostic, KeyPath]
"""A finding, and the key path that its `place` is relative to."""


def render(diagnostic: Diagnostic, *, colour: bool = False) -> str:
    """Returns the finding in the form of a compiler message, without a newline at the end."""

    def paint(text: str, style: str) -> str:
        return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m" if colour and text else text

    severity, label = diagnostic.severity, _printable(diagnostic.label)
    message = _printable(diagnostic.message)
    lines = [paint(f"{severity}[{diagnostic.code}]", severity) + paint(f": {message}", "bold")]
    span = diagnostic.span
    margin = " " * len(str(span.line)) if span else ""
    if span:
        lines.append(f"{margin}{paint('-->', 'place')} {span.file}:{span.line}:{span.column}")
    if span and diagnostic.source:
        bar = paint("|", "place")
        shown, lead, carets = _excerpt(diagnostic.source, span)
        lines += [
            f"{margin} {bar}",
            f"{paint(str(span.line), 'place')} {bar} {shown}",
            f"{margin} {bar} {lead}{paint(f'{carets} {label}'.rstrip(), severity)}",
        ]
    elif label:
        lines.append(f"{margin} {paint('=', 'place')} {label}")
    for note in diagnostic.notes:
        first, *rest = [_printable(line) for line in note.splitlines()] or [""]
        lines.append(f"{margin} {paint('=', 'place')} {first}")
        lines += [f"{margin}   {line}" for line in rest]
    return "\n".join(lines)


def as_data(diagnostic: Diagnostic) -> dict[str, Any]:
    """Returns the finding as JSON data, for other programs.

    Example:
        >>> as_data(Diagnostic("AZ123", "`exp.toml` is empty"))["code"]
        'AZ123'
    """
    span = diagnostic.span
    return {
        "code": diagnostic.code,
        "severity": diagnostic.severity,
        "message": diagnostic.message,
        "file": str(span.file) if span else None,
        "line": span.line if span else None,
        "column": span.column if span else None,
        "end_line": span.end_line if span else None,
        "end_column": span.end_column if span else None,
        "label": diagnostic.label,
        "suggestion": diagnostic.suggestion,
        "notes": list(diagnostic.notes),
    }


def as_annotation(diagnostic: Diagnostic) -> str:
    """Returns the finding as a line that GitHub Actions shows as an annotation of the file.

    Example:
        >>> as_annotation(Diagnostic("AZ123", "`exp.toml` is empty"))
        '::error title=AZ123::`exp.toml` is empty'
    """
    span = diagnostic.span
    fields = {"title": diagnostic.code}
    if span:
        fields |= {"file": str(span.file), "line": str(span.line), "endLine": str(span.end_line)}
        # GitHub accepts columns only for a span within one line.
        if span.end_line == span.line:
            fields |= {"col": str(span.column), "endColumn": str(span.end_column)}
    places = ",".join(f"{name}={_escaped(value, ':,')}" for name, value in fields.items())
    text = "\n".join(filter(None, (diagnostic.message, diagnostic.label, *diagnostic.notes)))
    return f"::{diagnostic.severity} {places}::{_escaped(text)}"


def _escaped(text: str, more: str = "") -> str:
    """Escapes each character that has a special meaning for GitHub Actions as `%XX`."""
    return "".join(f"%{ord(character):02X}" if character in f"%\r\n{more}" else character for character in text)


def _excerpt(source: str, span: Span) -> tuple[str, str, str]:
    """Returns the part of the line to show, the whitespace before the carets, and the carets."""
    start = span.column - 1
    end = span.end_column - 1 if span.end_line == span.line else len(source)
    first = 0 if len(source) <= _WIDTH else max(0, min(start - _BEFORE, len(source) - _WIDTH))
    last = min(len(source), first + _WIDTH)
    left, right = "…" if first > 0 else "", "…" if last < len(source) else ""
    # Keep tabs before the caret, so that the caret is below its character for any tab width.
    lead = "".join("\t" if character == "\t" else " " * _columns(character) for character in source[first:start])
    carets = "^" * max(1, sum(_columns(character) for character in source[start : min(end, last)]))
    return f"{left}{_printable(source[first:last])}{right}", " " * len(left) + lead, carets


def _columns(character: str) -> int:
    """Returns the width of a character on a terminal, in columns."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _printable(text: str) -> str:
    """Replaces characters that would move the cursor, change colours or reverse the writing direction."""
    return "".join(character if character.isprintable() or character == "\t" else "\ufffd" for character in text)
