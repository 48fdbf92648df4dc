"""Takes type annotations apart: removes wrappers, and finds the members of unions and the entries of tables."""

from __future__ import annotations

import collections
import collections.abc
import dataclasses
import types
import typing
from collections.abc import Iterator
from inspect import Parameter
from typing import Any, TypeVar, Union, get_args, get_origin

from audiozen_core.kinds import GROUPS

MAPPINGS = (dict, collections.abc.Mapping, collections.abc.MutableMapping, collections.OrderedDict)
"""The classes for which a TOML table can be passed."""

_Metadata = TypeVar("_Metadata")

_ARRAYS = (list, tuple, set, frozenset, collections.deque)


def unwrap(annotation: Any) -> Any:
    """Removes the wrappers around a type: aliases, `NewType`, `Annotated`, `InitVar`, `Final`, `Required` and so on.

    A type variable and a missing annotation become `Any`.
    """
    while (inner := _without_wrapper(annotation)) is not annotation:
        annotation = inner
    return annotation


def members_of(annotation: Any) -> tuple[Any, ...]:
    """Returns the members of a union without their wrappers. An annotation that is not a union is its only member.

    >>> members_of(typing.Annotated[int, "a number"] | None)
    (<class 'int'>, <class 'NoneType'>)
    """
    return tuple(member for member, _ in annotated_members(annotation, object))


def annotated_members(annotation: Any, kind: type[_Metadata]) -> Iterator[tuple[Any, tuple[_Metadata, ...]]]:
    """Yields the members of a union, each with its metadata of the class `kind`.

    An annotation that is not a union is its only member. Metadata that `Annotated` adds to a union belongs to each
    member of the union.

    >>> list(annotated_members(typing.Annotated[int, "a number", 3] | None, str))
    [(<class 'int'>, ('a number',)), (<class 'NoneType'>, ())]
    """
    metadata: list[_Metadata] = []
    while (inner := _without_wrapper(annotation)) is not annotation:
        if get_origin(annotation) is typing.Annotated:
            metadata += [entry for entry in annotation.__metadata__ if isinstance(entry, kind)]
        annotation = inner
    if get_origin(annotation) not in (Union, types.UnionType):
        yield annotation, tuple(metadata)
        return
    for member in get_args(annotation):
        for bare, more in annotated_members(member, kind):
            yield bare, (*metadata, *more)


@dataclasses.dataclass(frozen=True, slots=True)
class ComponentMarker:
    """The base class of metadata that mark a part of an annotation as a component.

    Args:
        kind: the kind of the component: the name of an entry-point group without `audiozen.`.

    Raises:
        ValueError: plugins do not publish components of this kind.
    """

    kind: str

    def __post_init__(self) -> None:
        if self.kind not in GROUPS:
            raise ValueError(f"plugins publish no components of the kind {self.kind!r}, only {', '.join(GROUPS)}")


def marked_kind(annotation: Any, marker: type[ComponentMarker]) -> str | None:
    """Returns the kind in the marker of an annotation; None if the annotation has no marker of this class."""
    members = annotated_members(annotation, marker)
    return next((found.kind for _, markers in members for found in markers), None)


def _without_wrapper(annotation: Any) -> Any:
    """Returns the annotation without its outermost wrapper, or the annotation itself if it has no wrapper."""
    if isinstance(annotation, dataclasses.InitVar):
        return annotation.type
    if hasattr(annotation, "__supertype__"):
        return annotation.__supertype__
    if type(annotation).__name__ == "TypeAliasType":
        return annotation.__value__
    # Python 3.10 has no `typing.Required`, but `typing_extensions` has.
    is_qualifier = getattr(get_origin(annotation), "_name", None) in ("Required", "NotRequired", "ReadOnly")
    if is_qualifier or get_origin(annotation) in (typing.Annotated, typing.Final, typing.ClassVar):
        return get_args(annotation)[0]
    return Any if isinstance(annotation, TypeVar) or annotation is Parameter.empty else annotation


def is_typed_dict(annotation: Any) -> bool:
    """Checks whether an annotation is a `TypedDict` from `typing` or `typing_extensions`.

    Test for this first: other checks on a `TypedDict`, such as `isinstance(value, cls)`, raise an error.
    """
    # `hasattr` is not used, because a metaclass may define `__getattr__`, which may return anything or raise an error.
    return isinstance(annotation, type) and {"__total__", "__required_keys__"} <= vars(annotation).keys()


def fields_of(cls: Any) -> dict[str, Any]:
    """Returns the annotations of the keys of a `TypedDict`, by key; empty if an annotation can't be resolved.

    >>> fields_of(typing.TypedDict("Options", {"gain": "float"}))
    {'gain': <class 'float'>}
    """
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except (NameError, TypeError):
        return {}


def is_required(cls: Any, key: str, annotation: Any) -> bool:
    """Checks whether a key of a `TypedDict` is required.

    If annotations are strings, as after `from __future__ import annotations`, `__required_keys__` ignores `Required`
    and `NotRequired`. So this function also reads the annotation.

    Args:
        cls: the `TypedDict`.
        key: the key.
        annotation: the annotation of the key, from `fields_of`.
    """
    wrapper = getattr(get_origin(annotation), "_name", None)
    return wrapper == "Required" or (wrapper != "NotRequired" and key in cls.__required_keys__)


def wants_callable(annotation: Any) -> bool:
    """Checks whether a callable can be passed for the annotation.

    >>> wants_callable(collections.abc.Callable[[int], float] | None), wants_callable(int | str)
    (True, False)
    """
    # Some authors write the builtin function `callable` as an annotation.
    wanted = (collections.abc.Callable, callable)
    return any((get_origin(member) or member) in wanted for member in members_of(annotation))


def is_array(origin: Any) -> bool:
    """Checks whether a TOML array fits a class: a list, a tuple, a set, or an abstract base class of these."""
    if origin in _ARRAYS:
        return True
    abstract = isinstance(origin, type) and origin.__module__ == "collections.abc" and origin not in MAPPINGS
    return abstract and (issubclass(list, origin) or issubclass(set, origin))
