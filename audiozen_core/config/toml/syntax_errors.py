"""Explains why a text is not valid TOML."""

from __future__ import annotations

import re

import tomli

from audiozen_core.config.toml.positions import Positions, TextRange
from audiozen_core.config.toml.source import Source
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.key_path import KeyPath, spell

# Words of Python and YAML that users write by mistake, each with its TOML equivalent, or None if TOML has no
# equivalent.
_WORDS = {"True": "true", "False": "false", "yes": "true", "no": "false", "None": None, "null": None}
# Matches tomli's messages about a key that is defined twice.
_TWICE = re.compile("overwrite|twice|immutable|[Dd]uplicate")


def explain_syntax_error(error: ValueError, source: Source, positions: Positions) -> list[Diagnostic]:
    """Returns the findings for a text that tomli can't parse. `error` is the exception that tomli raised."""
    twice = [_explain_duplicate(source, *twice) for twice in positions.twice]
    reason, offset = str(error), 0
    # If an integer has more digits than Python can convert, tomli raises a `ValueError` without a position instead.
    if isinstance(error, tomli.TOMLDecodeError):
        at_end = error.pos >= len(source.text)
        reason, offset = error.msg, len(source.text.rstrip()) if at_end else error.pos
    if twice and _TWICE.search(reason):
        return twice
    token = re.compile(r"[^\s,\]}#]+").match(source.text, offset)
    word = token.group() if token else ""
    notes: tuple[str, ...] = ()
    suggestion = None
    if reason == "Invalid value" and word in _WORDS:
        suggestion = _WORDS[word]
        notes = (f"help: write `{suggestion}`" if suggestion else "help: TOML has no such value; leave the key out",)
    elif reason == "Invalid value" and word[:1].isalpha():
        notes = ("help: put strings in quotes",)
    span = source.span(offset, token.end() if token else offset)
    message = f"not valid TOML: {reason}"
    return [*twice, source.finding(config_codes.NOT_TOML, message, span, suggestion=suggestion, notes=notes)]


def _explain_duplicate(source: Source, key_path: KeyPath, first: TextRange, second: TextRange) -> Diagnostic:
    earlier = source.span(*first)
    return source.finding(
        config_codes.NOT_TOML,
        f"not valid TOML: `{spell(key_path)}` is defined twice",
        source.span(*second),
        label="defined again here",
        notes=(f"first: {earlier.file}:{earlier.line}:{earlier.column}",),
    )
