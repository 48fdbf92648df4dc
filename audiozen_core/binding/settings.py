"""Declares the settings of a table in a TOML file, as the fields of a dataclass."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any


def setting(
    doc: str, *, default: Any = dataclasses.MISSING, default_factory: Callable[[], Any] | None = None, **rules: Any
) -> Any:
    """Returns a field of a dataclass that is a key of a table.

    Args:
        doc: what the key means.
        default: the value if the table does not have the key. Without a default, the table must have it.
        default_factory: a function that returns the default, for lists and tables.
        **rules: rules that a type can't express, such as `pattern` and `choices`.

    Example:
        >>> @dataclasses.dataclass
        ... class Table:
        ...     sr: int = setting("the sample rate, in hertz", default=16000)
        >>> Table().sr
        16000
    """
    metadata = {"doc": doc, **rules}
    if default_factory is not None:
        return dataclasses.field(default_factory=default_factory, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)
