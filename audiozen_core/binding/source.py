"""Reads the source of functions."""

from __future__ import annotations

import ast
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any


def syntax_tree(function: Callable[..., Any]) -> tuple[ast.Module, int] | None:
    """Returns the syntax tree of a Python function, and the offset between line numbers in the tree and in the file.

    A line number in the tree plus the offset is the line number in the file. Returns None if the source can't be read.
    """
    function = getattr(function, "__func__", function)
    # Only functions are cached, because other callables may not be hashable.
    return _read_once(function, function.__code__) if isinstance(function, types.FunctionType) else _read(function)


# A check reads the constructors of a base class for each of its subclasses, so the trees are cached. The code object is
# part of the cache key, because `%autoreload` replaces the code of a function in place.
@functools.lru_cache(maxsize=1024)
def _read_once(function: types.FunctionType, _: types.CodeType) -> tuple[ast.Module, int] | None:
    return _read(function)


def _read(function: Callable[..., Any]) -> tuple[ast.Module, int] | None:
    try:
        lines, first = inspect.getsourcelines(function)
        # The source of a method is indented. Dedenting would change multi-line strings, so an `if` is added above it.
        indented = lines[0][0].isspace()
        return ast.parse("".join(["if True:\n"] * indented + lines)), first - 1 - indented
    except (OSError, TypeError, SyntaxError, ValueError, IndexError, RecursionError):
        return None
