"""Reads the description of each parameter from docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

_BARE = (object, object.__init__)
# "name: text", "name (type): text" or "name (type, optional): text", optionally with stars before the name.
_ENTRY = re.compile(r"\*{0,2}(?P<name>\w+)\s*(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?\s*:(?:\s+(?P<text>\S.*))?$")
_GOOGLE = re.compile(r"(?P<indent> *)(?:Args|Arguments|Parameters|Keyword Args|Attributes):\s*$")
_NUMPY = re.compile(r"(?P<indent> *)(?:Other )?Parameters\s*$")
_NUMPY_ENTRY = re.compile(r"\*{0,2}(?P<name>\w+)\s*(?::.*)?$")


def parameter_docs(target: Any) -> dict[str, str]:
    """Returns the description of each parameter in the docstrings, as one line.

    For a class, the docstrings of the class, its constructor and its parents are read. Google style (PyTorch's is
    similar) and NumPy style are supported. If several docstrings describe a parameter, the docstring of the class takes
    precedence over the docstrings of parents.
    """
    found: dict[str, str] = {}
    sources = [target]
    if isinstance(target, type):
        sources = [source for base in inspect.getmro(target) for source in (base, vars(base).get("__init__"))]
    for source in sources:
        # `inspect.getdoc` is not used, because it returns the docstring of a parent if the class has none.
        text = getattr(source, "__doc__", None)
        if isinstance(text, str) and source not in _BARE:
            for name, doc in _entries(inspect.cleandoc(text).splitlines()):
                found.setdefault(name, doc)
    return found


def summary(target: Any) -> str:
    """Returns the first paragraph of the docstring as one line; "" if there is no docstring."""
    text = getattr(target, "__doc__", None)
    return " ".join(inspect.cleandoc(text).split("\n\n")[0].split()) if isinstance(text, str) else ""


def _entries(lines: list[str]) -> Iterator[tuple[str, str]]:
    for index, line in enumerate(lines):
        if match := _GOOGLE.match(line):
            yield from _block(lines[index + 1 :], len(match["indent"]) + 1, _ENTRY)
        elif (match := _NUMPY.match(line)) and _is_heading(lines, index):
            after = range(index + 2, len(lines))
            end = next((place for place in after if _is_heading(lines, place)), len(lines))
            yield from _block(lines[index + 2 : end], len(match["indent"]), _NUMPY_ENTRY)


def _is_heading(lines: list[str], index: int) -> bool:
    """Returns whether the line at an index is an underlined heading, as in NumPy style."""
    return set("".join(lines[index + 1 : index + 2]).strip()) == {"-"}


def _block(lines: list[str], least: int, entry: re.Pattern[str]) -> Iterator[tuple[str, str]]:
    """Yields the name and the text of each entry of a docstring section. Lines indented further continue an entry.

    Args:
        lines: the lines after the section's header.
        least: the smallest indentation of a line in the section.
        entry: the pattern of the first line of an entry.
    """
    indent: int | None = None
    name, words = "", [""]
    for line in lines:
        if not line.strip():
            continue
        depth = len(line) - len(line.lstrip())
        indent = depth if indent is None else indent
        if depth < max(indent, least):
            break
        match = entry.match(line.strip()) if depth == indent else None
        if match:
            if name:
                yield name, " ".join(filter(None, words))
            name, words = match["name"], [(match.groupdict().get("text") or "").strip()]
        elif depth > indent:
            words.append(line.strip())
        else:
            break
    if name:
        yield name, " ".join(filter(None, words))
