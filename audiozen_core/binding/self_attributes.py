"""Reads the source of a class to find out which attributes of `self` its methods use."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from audiozen_core.binding.source import syntax_tree


def attributes_used(cls: type, base: str) -> dict[str, str]:
    """Returns the attributes of `self` that the methods of a class read, each with the place where.

    Only the methods that objects of the class have are read, and not those of the class with the dotted name `base` or
    of the classes above it. A method whose source can't be read is left out.
    """
    found: dict[str, str] = {}
    seen: set[str] = set()
    for owner in cls.__mro__:
        if f"{owner.__module__}.{owner.__qualname__}" == base:
            break
        for name, member in vars(owner).items():
            if name not in seen:
                seen.add(name)
                for attribute, place in _used_by(_function(member)):
                    found.setdefault(attribute, place)
    return found


def may_set(cls: type, attribute: str) -> bool:
    """Returns whether a method of a class mentions an attribute, so that an object may have a value of its own."""
    functions = (_function(member) for owner in cls.__mro__ for member in vars(owner).values())
    return any(attribute in function.__code__.co_names for function in functions if function)


def _function(member: Any) -> Callable[..., Any] | None:
    """Returns the plain function of a method or of a property."""
    member = getattr(member, "fget", None) or getattr(member, "func", member)
    member = inspect.unwrap(member) if callable(member) else member
    return member if inspect.isfunction(member) else None


def _used_by(function: Callable[..., Any] | None) -> Iterator[tuple[str, str]]:
    found = syntax_tree(function) if function else None
    if function is None or found is None:
        return
    tree, offset = found
    code = function.__code__
    own = code.co_varnames[0] if code.co_argcount else ""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=name), ctx=ast.Load()) if name == own:
                yield node.attr, f"{code.co_filename}:{node.lineno + offset}"
