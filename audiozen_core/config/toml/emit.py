"""Writes tables as a TOML document that reads back as the same values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from audiozen_core.diagnostics.key_path import KeyPath, spell_key
from audiozen_core.diagnostics.toml_text import toml_text

_WIDTH = 100

Comment = Callable[[KeyPath], str]


def emit(values: Mapping[str, Any], comment: Comment | None = None) -> str:
    """Returns the values as a TOML document, in the order of `values`.

    `${` in a string becomes `$${`, so that reading the document does not treat it as a reference.

    Args:
        values: tables, arrays, strings, numbers, booleans, dates and times, as tomli returns them.
        comment: returns the comment for the line of a value or header; "" for none.

    Raises:
        TypeError: a value has any other type.

    Example:
        >>> print(emit({"optimizer": {"path": "torch.optim.RAdam", "args": {"lr": 1e-05, "betas": [0.9, 0.99]}}}))
        [optimizer]
        path = "torch.optim.RAdam"
        <BLANKLINE>
        [optimizer.args]
        lr = 1e-05
        betas = [0.9, 0.99]
        <BLANKLINE>
    """
    lines = list(_Emitter(comment or (lambda _: "")).table((), "", values))
    return "\n".join(lines[1:] if lines[:1] == [""] else lines) + "\n" if lines else ""


class _Emitter:
    def __init__(self, comment: Comment) -> None:
        self.comment = comment

    def table(self, path: KeyPath, name: str, table: Mapping[str, Any]) -> Iterator[str]:
        """Yields the lines of a table after its header. `name` is the table's name in headers."""
        below = {key: value for key, value in table.items() if _has_header(value)}
        for key, value in table.items():
            if key not in below:
                yield self.commented(f"{spell_key(key)} = {_laid_out(value)}", (*path, key))
        for key, value in below.items():
            place, title = (*path, key), f"{name}.{spell_key(key)}" if name else spell_key(key)
            if isinstance(value, Mapping):
                # A table that contains only tables does not need a header.
                if not value or not all(_has_header(entry) for entry in value.values()):
                    yield from ("", self.commented(f"[{title}]", place))
                yield from self.table(place, title, value)
            else:
                for index, entry in enumerate(value):
                    yield from ("", self.commented(f"[[{title}]]", (*place, index)))
                    yield from self.table((*place, index), title, entry)

    def commented(self, line: str, path: KeyPath) -> str:
        comment = self.comment(path)
        return f"{line}  # {comment}" if comment else line


def _has_header(value: Any) -> bool:
    if isinstance(value, Mapping):
        return True
    return isinstance(value, list) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _laid_out(value: Any, indent: str = "") -> str:
    """Returns one value as TOML. The entries of a long array are written on separate lines."""
    line = toml_text(value)
    if len(line) <= _WIDTH or not isinstance(value, list | tuple):
        return line
    deeper = f"{indent}    "
    entries = "".join(f"{deeper}{_laid_out(entry, deeper)},\n" for entry in value)
    return f"[\n{entries}{indent}]"
