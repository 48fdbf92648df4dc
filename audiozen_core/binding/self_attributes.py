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
    """Returns the attributes of a class's base that its methods read from `self`, each with the line.

    Only the methods that objects of the class have are read, and not those of the class with the dotted name `base` or
    of the classes above it. A method whose source can't be read is left out, and so is an attribute that the class
    defines itself, or that is only read under a condition: the method may have checked first that the attribute exists.
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
    """Returns the keys of a mapping, an attribute of `self`, that the modules of a class use: `self.models["g"]`.

    Args:
        cls: the class. The modules of its base classes are read too, up to the class with the dotted name `base`.
        base: see above.
        attribute: the name of the mapping. Other objects may have an attribute of this name; its keys count as well.

    Returns:
        None if they can't be known: a module is not Python or uses the mapping as a whole (in a loop, for instance), or
        a method passes `self` on.
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
    """Returns the keys of a mapping that a module uses; None if they can't be known."""
    keys: set[str] = set()
    known: set[ast.AST] = set()
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
                known.add(used)
                keys.add(key)
            case ast.If(test=ast.Attribute() as used) | ast.IfExp(test=ast.Attribute() as used):
                known.add(used)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) if name == attribute and node not in known:
                return None
            case ast.Constant(value=str(name)) if name == attribute:  # getattr(self, "models")
                return None
    return None if not tree.body else keys


def _is_self(value: ast.AST) -> bool:
    value = value.value if isinstance(value, ast.keyword | ast.Starred) else value
    return isinstance(value, ast.Name) and value.id == "self"


def may_set(cls: type, attribute: str) -> bool:
    """Returns whether a method of a class mentions an attribute, so that an object may have a value of its own."""
    functions = (_function(member) for owner in cls.__mro__ for member in vars(owner).values())
    return any(attribute in function.__code__.co_names for function in functions if function)


def _function(member: Any) -> types.FunctionType | None:
    """Returns the plain function of a method or of a property."""
    member = getattr(member, "fget", None) or getattr(member, "func", member)
    member = inspect.unwrap(member) if callable(member) else member
    return member if inspect.isfunction(member) else None


# A check reads the methods of a base class for each of its subclasses. `%autoreload` replaces the code in place.
@functools.lru_cache(maxsize=4096)
def _used_by(function: types.FunctionType, code: types.CodeType) -> tuple[tuple[str, str], ...]:
    """Returns the attributes that a function with this code reads from `self`, each with its line."""
    found = syntax_tree(function)
    if found is None:
        return ()
    tree, offset = found
    own = code.co_varnames[0] if code.co_argcount else ""
    # The tree may have an `if` around the function. It is not part of the function, so the search starts inside.
    root = next((node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)), tree)
    used = []
    for node in _unconditional(root):
        match node:
            case ast.Attribute(value=ast.Name(id=name), ctx=ast.Load()) if name == own:
                used.append((node.attr, f"{code.co_filename}:{node.lineno + offset}"))
    return tuple(used)


def _unconditional(node: ast.AST) -> Iterator[ast.AST]:
    """Yields a node and everything below it that is evaluated under all conditions.

    The body of a loop or of an inner function counts as evaluated.
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
    """Returns whether a statement may leave its block early, so that the statements after it may not run."""
    if not isinstance(statement, ast.If | ast.Match | ast.Try | ast.For | ast.While | ast.With):
        return False
    leaving = (ast.Return,) if isinstance(statement, ast.For | ast.While) else (ast.Return, ast.Continue, ast.Break)
    return any(isinstance(node, leaving) for node in ast.walk(statement))
