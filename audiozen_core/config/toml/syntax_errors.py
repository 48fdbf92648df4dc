"""Explains why a text is not TOML."""

from __future__ import annotations

import re

from audiozen_core.config.toml.positions import MAX_DEPTH, Positions, Range
from audiozen_core.config.toml.source import Source
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.key_path import KeyPath, spell

# Words of Python and YAML that people write, and their TOML form.
_WORDS = {"True": "true", "False": "false", "yes": "true", "no": "false", "None": None, "null": None}
# A file with more duplicate keys than this is broken as a whole.
_SHOWN = 20
# The words of tomli's messages about a second definition.
_TWICE = re.compile("overwrite|twice|immutable|[Dd]uplicate")


def explain_syntax_error(error: Exception, source: Source, positions: Positions) -> list[Diagnostic]:
    """Findings about a text that tomli refuses.

    Args:
        error: what tomli raised.
        source: the text.
        positions: the positions that could be found.
    """
    if isinstance(error, RecursionError):
        return [explain_too_deep(source, 0)]
    twice = [_explain_duplicate(source, *twice) for twice in positions.twice[:_SHOWN]]
    reason, offset = _reason_and_offset(error, source)
    if twice and _TWICE.search(reason):
        return twice
    token = re.compile(r"[^\s,\]}#]+").match(source.text, offset)
    word = token.group() if token else ""
    notes: tuple[str, ...] = ()
    suggestion = None
    if reason == "Invalid value" and word in _WORDS:
        suggestion = _WORDS[word]
        notes = (f"help: write `{suggestion}`" if suggestion else "help: TOML has no such word; leave the key out",)
    elif reason == "Invalid value" and word[:1].isalpha():
        notes = ("help: put strings in quotes",)
    span = source.span(offset, token.end() if token else offset)
    message = f"not valid TOML: {reason}"
    return [*twice, source.finding(config_codes.NOT_TOML, message, span, suggestion=suggestion, notes=notes)]


def explain_too_deep(source: Source, offset: int) -> Diagnostic:
    """A finding where the nesting exceeds the limit."""
    message = f"tables and arrays are nested more than {MAX_DEPTH} levels deep here"
    return source.finding(config_codes.TOO_DEEP, message, source.span(offset, offset + 1))


def _explain_duplicate(source: Source, key_path: KeyPath, first: Range, second: Range) -> Diagnostic:
    earlier = source.span(*first)
    return source.finding(
        config_codes.NOT_TOML,
        f"not valid TOML: `{spell(key_path)}` is defined twice",
        source.span(*second),
        label="defined here again",
        notes=(f"first: {earlier.file}:{earlier.line}:{earlier.column}",),
    )


def _reason_and_offset(error: Exception, source: Source) -> tuple[str, int]:
    """The reason that tomli gives, and its offset. Before tomli 2.1 only the message has the position."""
    message = str(error)
    reason, _, where = message.rpartition(" (at ")
    if match := re.fullmatch(r"line (\d+), column (\d+)\)", where):
        line, column = int(match[1]), int(match[2])
        return reason, source.line_starts[min(line, len(source.line_starts)) - 1] + column - 1
    if where == "end of document)":
        return reason, len(source.text.rstrip())
    if digits := re.search(r"\d[\d_]{4000,}", source.text):
        return "an integer of thousands of digits", digits.start()
    return message, 0
