"""The syntax of references in a string: `${…}`, and `$${` for the characters `${`."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Reference:
    """A `${…}` in a string. `body` is the text between the braces."""

    body: str

    def __str__(self) -> str:
        return f"${{{self.body}}}"


class UnclosedReferenceError(ValueError):
    """A string contains a `${` without the closing `}`."""


def split_references(text: str) -> list[str | Reference]:
    """Splits a string into references and plain strings. In the plain strings, `$${` becomes `${`.

    Raises:
        UnclosedReferenceError: a `}` is missing.

    Example:
        >>> split_references("${here}/data $${x}")
        [Reference(body='here'), '/data ${x}']
    """
    pieces: list[str | Reference] = []
    plain, position = "", 0
    for match in re.finditer(r"\$?\$\{", text):
        if match.start() < position:
            continue
        plain += text[position : match.start()]
        position = match.end()
        if match.group() == "$${":
            plain += "${"
            continue
        end = _closing_brace(text, position)
        pieces += [plain] if plain else []
        pieces.append(Reference(text[position:end]))
        plain, position = "", end + 1
    plain += text[position:]
    return [*pieces, plain] if plain or not pieces else pieces


def _closing_brace(text: str, position: int) -> int:
    depth = 1
    for match in re.compile(r"\$\{|\}").finditer(text, position):
        depth += -1 if match.group() == "}" else 1
        if depth == 0:
            return match.start()
    raise UnclosedReferenceError
