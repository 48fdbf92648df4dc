"""Reads the source of a class to find out which attributes of `self` its methods use."""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import types
from collections.abc import Iterator
from typing import Any

from audiozen_core.binding.source import syntax_tree


def attributes_used(cls: type, base: str) -> dict[str, str]:
    """Returns the inherited attributes that the methods of a class read from `self`, each with the file and line.

    The search covers the class and its base classes, up to but not including the class with the dotted name `base`. It
    skips overridden methods, and methods whose source can't be read.

    The result leaves out attributes that these classes define themselves. It also leaves out attributes that a method
    reads only under a condition, because the method may have checked first that the attribute exists.
    """
    found: dict[str, str] = {}
    seen: set[str] = set()
    for owner in cls.__mro__:
        if f"{owner.__module__}.{owner.__qualname__}" == base:
            break
        for name, member in vars(owner).items():
            if name not in seen:
                seen.add(name)
                function = _function(member)
                for attribute, place in _used_by(function, function.__code__) if function else ():
                    found.setdefault(attribute, place)
    return {attribute: place for attribute, place in found.items() if attribute not in seen}


def keys_used(cls: type, base: str, attribute: str) -> set[str] | None:
    """Returns the keys with which a class reads a mapping in an attribute of `self`: "g" for `self.models["g"]`.

    The complete modules that define the class and its base classes are searched.

    Args:
        cls: the class.
        base: the dotted name of the base class at which the search stops. The module of this class is not read.
        attribute: the name of the attribute. If other objects in these modules have an attribute with this name, the
            keys of those objects are returned too.

    Returns:
        The keys. The result is None if a module can't be parsed, uses the mapping as a whole, for example in a loop, or
        passes `self` to a call.
    """
    keys: set[str] = set()
    for owner in cls.__mro__:
        if f"{owner.__module__}.{owner.__qualname__}" == base:
            break
        functions = filter(None, map(_function, vars(owner).values()))
        files = dict.fromkeys(function.__code__.co_filename for function in functions)
        try:
            trees = [ast.parse("".join(linecache.getlines(file))) for file in files]
        except (SyntaxError, RecursionError):
            return None
        for tree in trees:
            found = _keys_in(tree, attribute)
            if found is None:
                return None
            keys |= found
    return keys


def _keys_in(tree: ast.Module, attribute: str) -> set[str] | None:
    """Returns the keys with which a module reads a mapping; None if the keys can't be determined."""
    keys: set[str] = set()
    understood: set[ast.AST] = set()  # the nodes that use the mapping with one known key, or without a key
    for node in ast.walk(tree):
        match node:
            case ast.Call(args=args, keywords=more) if any(_is_self(value) for value in [*args, *more]):
                return None
            case (
                ast.Subscript(value=ast.Attribute() as used, slice=ast.Constant(value=str(key)))
                | ast.Call(
                    func=ast.Attribute(value=ast.Attribute() as used, attr="get"),
                    args=[ast.Constant(value=str(key)), *_],
                )
                | ast.Compare(left=ast.Constant(value=str(key)), comparators=[ast.Attribute() as used])
            ) if used.attr == attribute:
                understood.add(used)
                keys.add(key)
            case ast.If(test=ast.Attribute() as used) | ast.IfExp(test=ast.Attribute() as used):
                understood.add(used)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) if name == attribute and node not in understood:
                return None
            case ast.Constant(value=str(name)) if name == attribute:  # getattr(self, "models")
                return None
    return None if not tree.body else keys


def _is_self(value: ast.AST) -> bool:
    value = value.value if isinstance(value, ast.keyword | ast.Starred) else value
    return isinstance(value, ast.Name) and value.id == "self"


def may_set(cls: type, attribute: str) -> bool:
    """Returns whether a method of a class mentions an attribute and therefore may set it."""
    functions = (_function(member) for owner in cls.__mro__ for member in vars(owner).values())
    return any(attribute in function.__code__.co_names for function in functions if function)


def _function(member: Any) -> types.FunctionType | None:
    """Returns the function of a method or a property; None for any other member."""
    member = getattr(member, "fget", None) or getattr(member, "func", member)
    member = inspect.unwrap(member) if callable(member) else member
    return member if inspect.isfunction(member) else None


# The methods of a base class are needed for each of its subclasses, so the result is cached. `code` is part of the
# cache key, because `%autoreload` replaces the code of a function in place.
@functools.lru_cache(maxsize=4096)
def _used_by(function: types.FunctionType, code: types.CodeType) -> tuple[tuple[str, str], ...]:
    """Returns the attributes that a function with this code reads from `self`, each with its line."""
    found = syntax_tree(function)
    if found is None:
        return ()
    tree, offset = found
    self_name = code.co_varnames[0] if code.co_argcount else ""
    # The search starts at the function itself, because `syntax_tree` may put an `if` around the function. Starting at
    # the `if`, all code in the function would count as conditional.
    root = next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)), tree)
    used = []
    for node in _unconditional(root):
        match node:
            case ast.Attribute(value=ast.Name(id=name), ctx=ast.Load()) if name == self_name:
                used.append((node.attr, f"{code.co_filename}:{node.lineno + offset}"))
    return tuple(used)


def _unconditional(node: ast.AST) -> Iterator[ast.AST]:
    """Yields a node, and all nodes below it that are evaluated whenever the node is evaluated.

    The body of a loop and the body of an inner function count as always evaluated.
    """
    yield node
    for value in _always_evaluated(node):
        if isinstance(value, ast.AST):
            yield from _unconditional(value)
        for entry in value if isinstance(value, list) else ():
            if isinstance(entry, ast.AST):
                yield from _unconditional(entry)
            if isinstance(entry, ast.stmt) and _may_leave(entry):
                break


def _always_evaluated(node: ast.AST) -> list[Any]:
    match node:
        case ast.If(test=test) | ast.IfExp(test=test):
            return [test]
        case ast.BoolOp(values=[first, *_]):
            return [first]
        case ast.Match(subject=subject):
            return [subject]
        case ast.Try(finalbody=final):
            return [final]
    return [value for _, value in ast.iter_fields(node)]


def _may_leave(statement: ast.stmt) -> bool:
    """Returns whether a statement may leave its block early, so that the following statements may not run."""
    if not isinstance(statement, ast.If | ast.Match | ast.Try | ast.For | ast.While | ast.With):
        return False
    leaving = (ast.Return,) if isinstance(statement, ast.For | ast.While) else (ast.Return, ast.Continue, ast.Break)
    return any(isinstance(node, leaving) for node in ast.walk(statement))
