"""Arguments that take the name of a component as a string, which their annotation says."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from inspect import Parameter
from typing import Any, Union, get_args, get_origin

from audiozen_core.binding.annotations import MAPPINGS, is_array, members_of, unwrap
from audiozen_core.binding.signature import signature_of
from audiozen_core.binding.values import fits
from audiozen_core.kinds import GROUPS


@dataclasses.dataclass(frozen=True, slots=True)
class ComponentName:
    """Says in an annotation that a string is the `path` of a component: `Annotated[str, ComponentName("metric")]`.

    `audiozen check` resolves such a string like the `path` of a section, and reports a name that does not exist at its
    position. The string is passed as it is. In an array or a table, each string with this annotation is a `path`. A
    table with `path` and `args` at the same place is looked up among the same kind, and is built as everywhere.

    Args:
        kind: the kind of the component, one that plugins publish: its entry point group without `audiozen.`.

    Raises:
        ValueError: plugins do not publish components of this kind.

    Example:
        >>> from typing import Annotated
        >>> def trainer(components, *, metrics: list[Annotated[str, ComponentName("metric")]]): ...
    """

    kind: str

    def __post_init__(self) -> None:
        if self.kind not in GROUPS:
            raise ValueError(f"plugins publish no components of the kind {self.kind!r}, only {', '.join(GROUPS)}")


def kind_of_component(annotation: Any) -> str | None:
    """Returns the kind of the components that an annotation takes by their names; None if it says nothing.

    >>> kind_of_component(typing.Annotated[str, ComponentName("metric")] | None), kind_of_component(str)
    ('metric', None)
    """
    return next((marked.kind for member in _members(annotation) for marked in _markers(member)), None)


def is_component_name(value: Any, annotation: Any) -> bool:
    """Checks whether a value is the name of a component. A word that a `Literal` beside the name takes is not."""
    others = [member for member in _members(annotation) if not any(_markers(member))]
    return (
        isinstance(value, str)
        and kind_of_component(annotation) is not None
        and not any(fits(value, other) == "yes" for other in others)
    )


def annotation_below(annotation: Any, key: str | int) -> Any:
    """Returns the annotation of an entry of an array, a table or a dataclass; `Any` if it is not known.

    >>> annotation_below(list[int] | dict[str, float] | None, 0), annotation_below(list[int] | dict[str, float], "a")
    (<class 'int'>, <class 'float'>)
    """
    found = tuple(_below(annotation, key))
    return Union[found] if found else Any  # noqa: UP007 (the number of members is not known)


def _below(annotation: Any, key: str | int) -> Iterator[Any]:
    for member in members_of(unwrap(annotation)):
        origin, args = get_origin(member) or member, get_args(member)
        if isinstance(key, int) and is_array(origin) and args:
            fixed = origin is tuple and args[-1] is not Ellipsis
            yield from args[key : key + 1] if fixed else args[:1]
        elif isinstance(key, str) and origin in MAPPINGS and len(args) == 2:
            yield args[1]
        elif isinstance(key, str) and isinstance(origin, type) and dataclasses.is_dataclass(origin):
            signature = signature_of(origin)
            field = signature.get(key) if signature else None
            if field is not None and field.annotation is not Parameter.empty:
                yield field.annotation


def _members(annotation: Any) -> Iterator[Any]:
    """Yields the members of a union with their metadata, or the annotation alone."""
    bare = unwrap(annotation)
    if not any(_markers(annotation)) and get_origin(bare) in (Union, types.UnionType):
        for member in get_args(bare):
            yield from _members(member)
    else:
        yield annotation


def _markers(annotation: Any) -> Iterator[ComponentName]:
    """Yields the marker of an annotation, also if an alias or another wrapper is around it."""
    while type(annotation).__name__ == "TypeAliasType":
        annotation = annotation.__value__
    if get_origin(annotation) is typing.Annotated:
        yield from (marker for marker in get_args(annotation)[1:] if isinstance(marker, ComponentName))
