"""Finds the position of every key and value in a TOML document.

`tomli` reads the values of a document, but not their positions. This reader finds only the positions. It accepts some
documents that are not valid TOML, because `tomli` reports these errors. Its running time is linear in the length of the
document.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field

import tomli

from audiozen_core.diagnostics.key_path import KeyPath

MAX_DEPTH = 64

TextRange = tuple[int, int]

_BLANK = re.compile(r"[ \t]*")
_BLANK_LINES = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BASIC_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL_STRING = re.compile(r"'[^'\n]*'")
# Matches a string, a date-time with a space between date and time, or any other scalar. A multi-line string may end
# with one or two quotes before its three closing quotes.
_SCALAR = re.compile(
    r'''"""(?:[^"\\]|\\[\s\S]|"{1,2}(?!"))*"{3,5}'''
    r"""|'''(?:[^']|'{1,2}(?!'))*'{3,5}"""
    rf"""|{_BASIC_STRING.pattern}|{_LITERAL_STRING.pattern}"""
    r"""|\d{4}-\d\d-\d\d \d\d:[^\s,\]}#]*|[^\s,\]}#"'][^\s,\]}#]*"""
)
# Matches the most common statement, `key = scalar`, in one step, which saves time in a long file.
_PLAIN_PAIR = re.compile(rf"({_BARE_KEY.pattern})[ \t]*=[ \t]*(?![\[{{])({_SCALAR.pattern})")


class TooDeepError(Exception):
    """Tables and arrays are nested deeper than `MAX_DEPTH`. The argument is the offset of the first level too many."""


@dataclass(slots=True)
class Positions:
    """Character offsets `(start, end)` of keys and values.

    Attributes:
        keys: the last part of each key, such as `lr` in `optimizer.args.lr = 0.1`, or the name in a header.
        values: each value. The position of a table is its header, or its key if it has no header.
        twice: each key that is set twice, which TOML does not allow, with both positions of the key.
    """

    keys: dict[KeyPath, TextRange] = field(default_factory=dict)
    values: dict[KeyPath, TextRange] = field(default_factory=dict)
    twice: list[tuple[KeyPath, TextRange, TextRange]] = field(default_factory=list)


def find_positions(text: str) -> Positions:
    r"""Finds every key and every value of a document whose line ends are `\n`.

    If the text is not valid TOML, only the keys and values before the first error are found.

    Raises:
        TooDeepError: tables and arrays are nested deeper than `MAX_DEPTH`.

    Example:
        >>> positions = find_positions("[optimizer]\nargs.lr = 0.1")
        >>> positions.keys["optimizer", "args", "lr"], positions.values["optimizer", "args", "lr"]
        ((17, 19), (22, 25))
    """
    reader = _Reader(text)
    with suppress(_InvalidTomlError):
        reader.read()
    return reader.positions


class _InvalidTomlError(Exception):
    """The reader can't continue, because the text is not valid TOML."""


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.positions = Positions()
        # Tables that have a header and keys that have a value. They must not be defined again.
        self.fixed: set[KeyPath] = set()
        # The number of entries of each array of tables so far.
        self.lengths: dict[KeyPath, int] = {}

    def read(self) -> None:
        table: KeyPath = ()
        position = self._skip(0, _BLANK_LINES)
        while position < len(self.text):
            if self.text[position] == "[":
                table, position = self._header(position)
            else:
                position = self._pair(table, position)
            position = self._skip(position, _BLANK)
            if position < len(self.text) and self.text[position] not in "\n#":
                raise _InvalidTomlError
            position = self._skip(position, _BLANK_LINES)

    # ------------------------------------------------------------------------------------------ statements

    def _header(self, start: int) -> tuple[KeyPath, int]:
        brackets = 2 if self.text.startswith("[[", start) else 1
        parts, end = self._key(start + brackets)
        if not self.text.startswith("]" * brackets, end):
            raise _InvalidTomlError
        end += brackets
        path: KeyPath = ()
        for name, place in parts[:-1]:
            path = (*path, name)
            self._record(path, place, place)
            if path in self.lengths:
                path = (*path, self.lengths[path] - 1)
        name, place = parts[-1]
        path = (*path, name)
        if brackets == 2:
            if path in self.fixed:
                self.positions.twice.append((path, self.positions.keys[path], place))
            self._record(path, place, (start, end))
            index = self.lengths.get(path, 0)
            self.lengths[path] = index + 1
            path = (*path, index)
        elif path in self.fixed or path in self.lengths:
            self.positions.twice.append((path, self.positions.keys[path], place))
        self.fixed.add(path)
        # An earlier header such as `[a.b]` may have set the position of `a`, but the header `[a]` is a better position.
        self.positions.keys[path] = place
        self.positions.values[path] = (start, end)
        self._check_depth(path, place[0])
        return path, end

    def _pair(self, table: KeyPath, start: int) -> int:
        plain = _PLAIN_PAIR.match(self.text, start)
        if plain:
            path = (*table, plain[1])
            self._check_depth(path, start)
            self._set_once(path, plain.span(1), plain.span(2))
            return plain.end()
        parts, position = self._key(start)
        path = table
        for name, place in parts[:-1]:
            path = (*path, name)
            self._record(path, place, place)
        name, place = parts[-1]
        path = (*path, name)
        self._check_depth(path, place[0])
        if not self.text.startswith("=", position):
            raise _InvalidTomlError
        value = self._skip(position + 1, _BLANK)
        end = self._value(path, value)
        self._set_once(path, place, (value, end))
        return end

    def _set_once(self, path: KeyPath, key: TextRange, value: TextRange) -> None:
        if path in self.positions.keys:
            self.positions.twice.append((path, self.positions.keys[path], key))
        self._record(path, key, value)
        self.fixed.add(path)

    def _record(self, path: KeyPath, key: TextRange, value: TextRange) -> None:
        self.positions.keys.setdefault(path, key)
        self.positions.values.setdefault(path, value)

    def _check_depth(self, path: KeyPath, offset: int) -> None:
        if len(path) > MAX_DEPTH:
            raise TooDeepError(offset)

    # ------------------------------------------------------------------------------------------ keys

    def _key(self, position: int) -> tuple[list[tuple[str, TextRange]], int]:
        """Reads a dotted key and the blanks around it."""
        parts = []
        while True:
            position = self._skip(position, _BLANK)
            name, end = self._simple_key(position)
            parts.append((name, (position, end)))
            if len(parts) > MAX_DEPTH:
                raise TooDeepError(position)
            position = self._skip(end, _BLANK)
            if not self.text.startswith(".", position):
                return parts, position
            position += 1

    def _simple_key(self, start: int) -> tuple[str, int]:
        for pattern in (_BARE_KEY, _BASIC_STRING, _LITERAL_STRING):
            if match := pattern.match(self.text, start):
                text = match.group()
                if pattern is _BASIC_STRING and "\\" in text:
                    return _unescape(text), match.end()
                return (text if pattern is _BARE_KEY else text[1:-1]), match.end()
        raise _InvalidTomlError

    # ------------------------------------------------------------------------------------------ values

    def _value(self, path: KeyPath, start: int) -> int:
        """Reads the value at `start`, records the positions of keys and values in it, and returns where it ends."""
        self._check_depth(path, start)
        first = self.text[start : start + 1]
        if first == "[":
            return self._array(path, start)
        if first == "{":
            return self._inline_table(path, start)
        if match := _SCALAR.match(self.text, start):
            return match.end()
        raise _InvalidTomlError

    def _array(self, path: KeyPath, start: int) -> int:
        position = self._skip(start + 1, _BLANK_LINES)
        index = 0
        while not self.text.startswith("]", position):
            end = self._value((*path, index), position)
            self._record((*path, index), (position, end), (position, end))
            index += 1
            position = self._separator(end, "]")
        return position + 1

    def _inline_table(self, path: KeyPath, start: int) -> int:
        position = self._skip(start + 1, _BLANK_LINES)
        while not self.text.startswith("}", position):
            position = self._separator(self._pair(path, position), "}")
        return position + 1

    def _separator(self, position: int, closing: str) -> int:
        position = self._skip(position, _BLANK_LINES)
        if self.text.startswith(",", position):
            return self._skip(position + 1, _BLANK_LINES)
        if not self.text.startswith(closing, position):
            raise _InvalidTomlError
        return position

    def _skip(self, position: int, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self.text, position)
        return match.end() if match else position


def _unescape(text: str) -> str:
    try:
        return str(tomli.loads(f"key = {text}")["key"])
    except ValueError:
        raise _InvalidTomlError from None
