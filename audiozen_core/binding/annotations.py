"""Takes annotations apart: wrappers, unions, arrays and tables."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import types
import typing
from collections.abc import Iterator
from inspect import Parameter
from typing import Any, TypeVar, Union, get_args, get_origin

MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping, collections.OrderedDict)
"""The classes for which a TOML table can be passed."""

_Metadata = TypeVar("_Metadata")

_ARRAYS = (list, tuple, set, frozenset, collections.deque)


def unwrap(annotation: Any) -> Any:
    """Removes the wrappers of a type: aliases, `NewType`, `Annotated`, `InitVar`, `Final`, `ClassVar`.

    A type variable becomes `Any`, and so does a missing annotation.
    """
    while True:
        if isinstance(annotation, dataclasses.InitVar):
            annotation = annotation.type
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        elif get_origin(annotation) in (typing.Annotated, typing.Final, typing.ClassVar):
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, TypeVar) or annotation is Parameter.empty:
            return Any
        else:
            return annotation


def members_of(annotation: Any) -> tuple[Any, ...]:
    """Returns the members of a union, or the annotation alone, without their wrappers.

    >>> members_of(typing.Annotated[int, "a number"] | None)
    (<class 'int'>, <class 'NoneType'>)
    """
    bare = unwrap(annotation)
    if get_origin(bare) not in (Union, types.UnionType):
        return (bare,)
    return tuple(inner for member in get_args(bare) for inner in members_of(member))


def metadata_of(annotation: Any, kind: type[_Metadata]) -> Iterator[_Metadata]:
    """Yields what `Annotated` adds to a type or to a member of a union, if it is of this kind.

    >>> list(metadata_of(typing.Annotated[int, "a number", 3] | None, str))
    ['a number']
    """
    while type(annotation).__name__ == "TypeAliasType":
        annotation = annotation.__value__
    if get_origin(annotation) is typing.Annotated:
        inner, *metadata = get_args(annotation)
        yield from (entry for entry in metadata if isinstance(entry, kind))
        yield from metadata_of(inner, kind)
    elif get_origin(annotation) in (Union, types.UnionType):
        for member in get_args(annotation):
            yield from metadata_of(member, kind)


def wants_callable(annotation: Any) -> bool:
    """Checks whether a callable can be passed for the annotation.

    >>> wants_callable(collections.abc.Callable[[int], float] | None), wants_callable(int | str)
    (True, False)
    """
    # Some people write the builtin function `callable` as a type.
    wanted = (collections.abc.Callable, callable)
    return any((get_origin(member) or member) in wanted for member in members_of(annotation))


def is_array(origin: Any) -> bool:
    """Checks whether a TOML array fits this class: a list, a tuple, a set, or an abstract base class of these."""
    if origin in _ARRAYS:
        return True
    abstract = isinstance(origin, type) and origin.__module__ == "collections.abc" and origin not in MAPPINGS
    return abstract and (issubclass(list, origin) or issubclass(set, origin))
