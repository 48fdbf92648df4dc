"""Finds the modules that a loss or a data set holds without registering them, as an `nn.Module` registers its children.

`nn.Module` knows only the modules among its own attributes, `nn.ModuleList` and `nn.ModuleDict`. It can't train, save,
move or switch the others.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from types import FunctionType, MethodType, ModuleType
from typing import Any

from torch import nn
from torch.utils.data import Dataset

# The attributes of every module, which hold its children and its hooks.
_OF_EVERY_MODULE = frozenset(vars(nn.Module()))

# Values that hold no modules of a loss or a data set.
_PLAIN = (str, int, float, type, ModuleType)


def held_modules(part: Any) -> dict[str, nn.Module]:
    """Returns the modules in an object that it does not register, by name; itself is not one of them.

    They are looked for in attributes, lists, tuples, sets and dicts, the arguments of `functools.partial`, what a
    function uses from outside of it, and the attributes of the objects and data sets that are found there.
    """
    registered = list(part.modules()) if isinstance(part, nn.Module) else []
    seen = {id(module) for module in registered}
    found: dict[str, nn.Module] = {}
    names = {id(module): name for name, module in part.named_modules()} if registered else {}
    for owner in registered or [part]:
        prefix = f"{names[id(owner)]}." if names.get(id(owner)) else ""
        for name, module in _held(owner, seen, levels=2):
            found[prefix + name] = module
    return found


def _held(owner: Any, seen: set[int], levels: int) -> Iterator[tuple[str, nn.Module]]:
    """Yields the modules in the contents of an object, at most `levels` objects deep, each of them once."""
    for name, value in _contents(owner):
        for key, item in ((name, value), *_items(name, value)):
            if item is None or isinstance(item, _PLAIN) or id(item) in seen:
                continue
            seen.add(id(item))
            if isinstance(item, nn.Module):
                seen.update(map(id, item.modules()))
                yield key, item
            # Wrappers of data sets may lie within each other to any depth.
            elif levels > 1 or isinstance(item, Dataset):
                for inner, module in _held(item, seen, levels - 1):
                    yield f"{key}.{inner}", module


def _contents(owner: Any) -> list[tuple[str, Any]]:
    if isinstance(owner, functools.partial):
        return [("func", owner.func), *_items("args", owner.args), *owner.keywords.items()]
    if isinstance(owner, MethodType):
        return [("self", owner.__self__)]
    if isinstance(owner, FunctionType):
        try:
            used = inspect.getclosurevars(owner)
        except ValueError:  # a variable of the closure has no value yet
            return []
        return [*used.nonlocals.items(), *used.globals.items()]
    # A property could compute something, so only attributes of the instance.
    attributes = getattr(owner, "__dict__", {})
    hidden = _OF_EVERY_MODULE if isinstance(owner, nn.Module) else ()
    return [(name, value) for name, value in attributes.items() if name not in hidden]


def _items(name: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"{name}.{key}", item) for key, item in list(value.items())]
    if isinstance(value, list | tuple | set | frozenset):
        # A data set may keep millions of names or numbers.
        return [(f"{name}.{index}", item) for index, item in enumerate(value) if not isinstance(item, _PLAIN)]
    return []
