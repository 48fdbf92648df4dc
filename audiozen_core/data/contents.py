"""Lists the values that an arbitrary object holds: in attributes, containers, arguments and closures."""

from __future__ import annotations

import functools
import inspect
from collections import deque
from collections.abc import Iterable
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MappingProxyType, MemberDescriptorType, MethodType, ModuleType
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset, Sampler

# Values that hold no other values of interest.
_PLAIN = (
    *(str, bytes, int, float, complex, type, type(None), PurePath, ModuleType, BuiltinFunctionType),
    *(np.generic, np.ndarray),
)
_MAPPINGS = (dict, MappingProxyType)
_CONTAINERS = (*_MAPPINGS, list, tuple, set, frozenset, deque)

# A longer container is assumed to be data, such as the rows of a table. Of its entries, only instances of `_PARTS` and
# objects with `set_epoch` are listed, for example the data sets in a `ConcatDataset`.
_LONGEST = 10_000
_PARTS = (Dataset, Sampler, nn.Module)

# The attributes that every module has for its children, weights and hooks. `_flat_weights` is the list of weights of a
# recurrent layer, which is outdated if one of the weights has a parametrization.
_OF_EVERY_MODULE = frozenset(vars(nn.Module())) | {"_flat_weights"}


def contents(owner: Any, *, used_globals: bool = False) -> list[tuple[str, Any]]:
    """Returns the values that an object holds, each with its name. No property of the object is evaluated.

    What an object holds depends on its type:

    - A dict, list, tuple, set, deque or mapping proxy holds its entries. With more than 10,000 entries, only data sets,
      samplers, modules and objects with `set_epoch` are returned.
    - A `functools.partial` holds its function and arguments, and a bound method holds its `__self__`.
    - A function holds its closure variables and its default arguments.
    - An `nn.Module` holds its own attributes, without its children and weights.
    - A class holds nothing.
    - Any other object holds its attributes (also in `__slots__`), the attributes of its class, and the default
      arguments of its methods.

    Numbers, text and arrays are left out, and so are containers that hold nothing else, such as the rows of a table.

    Args:
        owner: the object.
        used_globals: whether a function also holds the global variables that it uses.

    Example:
        >>> contents({"a": 1, "b": [[2]], "c": slice(3)}), contents(([4], [slice(5)]))
        ([('c', slice(None, 3, None))], [('1', [slice(None, 5, None)])])
    """
    return [(name, value) for name, value in _all_contents(owner, used_globals) if not _holds_nothing(value)]


def _holds_nothing(value: Any, levels: int = 4) -> bool:
    """Returns whether a value is a number, text or array, or a container of only these, nested up to `levels` deep.

    This is many times faster than listing the entries, and most values in a data set are rows of numbers and text.
    """
    cls = type(value)
    if cls not in _CONTAINERS:  # a subclass of a container can also have attributes
        return _is_plain(cls)  # type: ignore[arg-type]  # mypy: a class has no hash
    entries = value.values() if cls in _MAPPINGS else value
    classes = set(map(type, entries))
    if all(map(_is_plain, classes)):
        return True
    if len(value) > _LONGEST:
        return not any(map(_is_part, classes))
    # The limit on levels also ends the recursion if a container contains itself.
    return levels > 1 and all(map(functools.partial(_holds_nothing, levels=levels - 1), entries))


@functools.lru_cache(maxsize=4096)
def _is_plain(cls: type) -> bool:
    return issubclass(cls, _PLAIN)


def _all_contents(owner: Any, used_globals: bool) -> Iterable[tuple[str, Any]]:
    if isinstance(owner, (*_PLAIN, Tensor)):
        return []
    if isinstance(owner, _CONTAINERS):
        long = len(owner) > _LONGEST
        # Collecting the classes of a million entries takes only hundredths of a second.
        classes = {cls for cls in set(map(type, _values(owner))) if _is_part(cls)} if long else set()
        if long and not classes:
            return []
        items = list(owner.items()) if isinstance(owner, _MAPPINGS) else enumerate(owner)
        return [
            # A key of another type can have a long `str`, for example a tensor in the state of an optimiser.
            (str(key if isinstance(key, str | int) else place), value)
            for place, (key, value) in enumerate(items)
            if not long or type(value) in classes
        ]
    if isinstance(owner, functools.partial):
        return [("func", owner.func), ("args", owner.args), *owner.keywords.items()]
    if isinstance(owner, MethodType):
        return [("self", owner.__self__)]
    if isinstance(owner, FunctionType):
        return _variables(owner, used_globals=used_globals)
    # Only stored attributes are read, because a property could run arbitrary code.
    hidden = _OF_EVERY_MODULE if isinstance(owner, nn.Module) else ()
    attributes = getattr(owner, "__dict__", None)
    attribute_values = list(attributes.items()) if isinstance(attributes, dict) else []
    for name, slot in _slots(type(owner)):  # type: ignore[arg-type]  # mypy: a class has no hash
        try:
            attribute_values.append((name, slot.__get__(owner)))
        except AttributeError:  # the slot has no value yet
            continue
    names = dict(attribute_values)
    attribute_values += [(name, value) for name, value in _of_class(type(owner)) if name not in names]
    return [(name, value) for name, value in attribute_values if name not in hidden]


def _of_class(cls: type) -> Iterable[tuple[str, Any]]:
    """Yields the attributes of a class that are not methods, and the default arguments of its methods."""
    for base, name in _class_attributes(cls):
        value = vars(base).get(name)
        if isinstance(value, FunctionType):
            yield from ((f"{name}.{argument}", default) for argument, default in _defaults(value))
        else:
            yield name, value


@functools.lru_cache(maxsize=1024)
def _class_attributes(cls: type) -> list[tuple[type, str]]:
    found: dict[str, type] = {}
    for base in cls.__mro__:
        # Classes of torch and the standard library hold no objects of the user.
        if base.__module__.partition(".")[0] in ("builtins", "abc", "typing", "torch"):
            continue
        for name, value in vars(base).items():
            if isinstance(value, FunctionType):
                holds = any(not isinstance(default, _PLAIN) for _, default in _defaults(value))
            else:
                # A value with `__get__` is a property or another kind of method.
                holds = (
                    not name.startswith("__") and not isinstance(value, _PLAIN) and not hasattr(type(value), "__get__")
                )
            if holds:
                found.setdefault(name, base)
    return [(base, name) for name, base in found.items()]


def _defaults(function: FunctionType) -> list[tuple[str, Any]]:
    values = function.__defaults__ or ()
    arguments = function.__code__.co_varnames[: function.__code__.co_argcount]
    positional = zip(arguments[len(arguments) - len(values) :], values, strict=True)
    return [*positional, *(function.__kwdefaults__ or {}).items()]


@functools.lru_cache(maxsize=1024)
def _slots(cls: type) -> list[tuple[str, MemberDescriptorType]]:
    attributes = [item for base in cls.__mro__ for item in vars(base).items()]
    return [(name, slot) for name, slot in attributes if isinstance(slot, MemberDescriptorType)]


def _values(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, _MAPPINGS) else container


def _is_part(cls: type) -> bool:
    return issubclass(cls, _PARTS) or any("set_epoch" in vars(base) for base in cls.__mro__)


def is_container(value: Any) -> bool:
    """Returns whether `contents` treats a value as a container, such as a dict or a list."""
    return isinstance(value, _CONTAINERS)


def _variables(function: FunctionType, *, used_globals: bool) -> list[tuple[str, Any]]:
    try:
        used = inspect.getclosurevars(function)
    except ValueError:  # a variable of the closure has no value yet
        return _defaults(function)
    return [*_defaults(function), *used.nonlocals.items(), *(used.globals.items() if used_globals else ())]
