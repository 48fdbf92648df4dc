"""Reads the source of a function to find out how it uses its `**kwargs`."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from audiozen_core.binding.source import syntax_tree


@dataclass(frozen=True, slots=True)
class Forward:
    """A call that passes the function's `**kwargs` on to a constructor of a parent class.

    Attributes:
        parent: the class in `Parent.__init__(self, **kwargs)`; None for `super()`.
        positional: the number of positional arguments of the call, without `self`.
        keywords: the names of the keyword arguments of the call, apart from `**kwargs`.
    """

    parent: str | None
    positional: int
    keywords: frozenset[str]


@dataclass(slots=True)
class KeywordUse:
    """How a function uses its `**kwargs`.

    Attributes:
        taken: the names that the function reads from its `**kwargs`. The value is True if the name is optional, as in
            `kwargs.pop("gain", 1.0)`.
        forwards: the calls that pass the `**kwargs` on to a parent class.
        readable: False if the `**kwargs` are also used in another way, or if the source can't be read.
    """

    taken: dict[str, bool] = field(default_factory=dict)
    forwards: list[Forward] = field(default_factory=list)
    readable: bool = True


def keyword_use(function: Callable[..., Any], keywords: str) -> KeywordUse:
    """Finds out how a Python function uses its `**kwargs`. `keywords` is the name of that parameter."""
    found = syntax_tree(function)
    return KeywordUse(readable=False) if found is None else _use_in(found[0], keywords)


# `syntax_tree` caches the trees, and searching a long constructor takes a millisecond.
@functools.lru_cache(maxsize=1024)
def _use_in(tree: ast.Module, keywords: str) -> KeywordUse:
    use = KeywordUse()
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Name):
            continue
        if node.id in {"locals", "vars"} and not _checks_ranges(parents.get(parents[node])):
            use.readable = False
        if node.id == keywords:
            _read(node, parents, use)
    return use


def _checks_ranges(call: ast.AST | None) -> bool:
    """Returns whether a call is `check_ranges(Cls, locals())`, which reads only the parameters of the constructor."""
    match call:
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
            return name in {"check_ranges", "out_of_range"}
    return False


def _read(name: ast.Name, parents: dict[ast.AST, ast.AST], use: KeywordUse) -> None:
    """Adds one use of the `**kwargs` to `use`."""
    parent = parents[name]
    above = parents.get(parent)
    match parent:
        case ast.keyword(arg=None) if isinstance(above, ast.Call) and (forward := _forward(above)):
            if forward not in use.forwards:
                use.forwards.append(forward)
        case ast.Attribute(attr="pop" | "get" | "setdefault") if isinstance(above, ast.Call):
            match above.args:
                case [ast.Constant(value=str(key)), *default]:
                    optional = bool(default or above.keywords) or parent.attr == "get"
                    use.taken[key] = use.taken.get(key, False) or optional
                case _:
                    use.readable = False
        case ast.Attribute(attr="update"):
            pass
        case ast.Subscript(slice=ast.Constant(value=str(key)), ctx=context):
            # A name that the function reads is required. A name that the function sets is optional, because the user's
            # value is replaced anyway.
            use.taken.setdefault(key, not isinstance(context, ast.Load))
        case ast.Compare(left=ast.Constant(value=str(key)), ops=[ast.In() | ast.NotIn()]):
            use.taken[key] = True
        case ast.If() | ast.UnaryOp(op=ast.Not()):
            pass  # such as `if kwargs: raise TypeError(...)`, which does not use a particular name
        case _:
            use.readable = False


def _forward(call: ast.Call) -> Forward | None:
    """Reads a call of the constructor of a parent class; None for any other call."""
    match call.func:
        case ast.Attribute(
            value=ast.Call(func=ast.Name(id="super")), attr="__init__" | "__new__" | "__call__" as method
        ):
            # Of the three forms of the call, only `super().__new__(cls, …)` has the class itself among its arguments.
            parent, bound = None, int(method == "__new__")
        case ast.Attribute(value=ast.Name(id=named) | ast.Attribute(attr=named), attr="__init__"):
            parent, bound = named, 1
        case _:
            return None
    plain = [argument for argument in call.args if not isinstance(argument, ast.Starred)]
    names = frozenset(keyword.arg for keyword in call.keywords if keyword.arg is not None)
    return Forward(parent, len(plain) - bound, names)
