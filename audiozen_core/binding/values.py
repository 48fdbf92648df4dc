"""Checks TOML values against Python annotations and converts them."""

from __future__ import annotations

import collections.abc
import dataclasses
import datetime
import enum
import numbers
import os
import types
import typing
from collections.abc import Iterator, Mapping
from inspect import Parameter
from pathlib import PurePath
from typing import Any, Literal, Union, get_args, get_origin

from audiozen_core.binding.annotations import (
    MAPPINGS,
    annotated_members,
    fields_of,
    is_array,
    is_typed_dict,
    members_of,
    unwrap,
)
from audiozen_core.binding.inline_components import with_inline
from audiozen_core.binding.signature import signature_of
from audiozen_core.diagnostics.key_path import KeyPath

Fit = Literal["yes", "no", "foreign", "unknown"]
"""Whether a value fits a type. `foreign` means that TOML has no values of the type, and `unknown` means that the type
can't be checked."""

_TOML = (str, bool, int, float, list, Mapping, datetime.date, datetime.time)
# In Python, a boolean is also an integer, and a `datetime` is also a `date`. In TOML, all four are different types.
_SCALARS: dict[Any, tuple[type, ...]] = {
    str: (str,),
    bool: (bool,),
    int: (int,),
    float: (int, float),
    complex: (int, float),
    numbers.Number: (int, float),
    numbers.Complex: (int, float),
    numbers.Real: (int, float),
    numbers.Rational: (int,),
    numbers.Integral: (int,),
    os.PathLike: (str,),
    datetime.datetime: (datetime.datetime,),
    datetime.date: (datetime.date,),
    datetime.time: (datetime.time,),
}
# Many functions with arguments of these classes also accept a string, although the annotation does not say so.
_LENIENT = {("torch", "device"), ("torch", "dtype")}


def fits(value: Any, annotation: Any) -> Fit:
    """Checks whether a TOML value can be passed for an annotation.

    An integer fits a float, but `true` is not a number. An array fits a list, a tuple or a set; a table fits a mapping
    or a dataclass; a string fits a path. For a nested table that names a component by `path`, the answer is `unknown`.
    """
    annotation = unwrap(annotation)
    if annotation in (Any, object) or not isinstance(value, _TOML) or is_component(value):
        return "unknown"
    if annotation is None or annotation is types.NoneType:
        return "foreign"
    origin = get_origin(annotation) or annotation
    if origin is Literal:
        same = (type(value) is type(choice) and value == choice for choice in get_args(annotation))
        return "yes" if any(same) else "no"
    if origin in (Union, types.UnionType):
        return _any_of([fits(value, member) for member in get_args(annotation)])
    if origin in _SCALARS:
        return _fits_scalar(value, _SCALARS[origin])
    if is_typed_dict(origin):
        return _fits_fields(value, origin)
    if not isinstance(origin, type):
        return "foreign" if origin is collections.abc.Callable else "unknown"
    if issubclass(origin, PurePath):
        return "yes" if isinstance(value, str) else "no"
    if is_array(origin):
        return _fits_array(value, annotation)
    if origin in MAPPINGS:
        return _fits_mapping(value, get_args(annotation))
    if dataclasses.is_dataclass(origin):
        return _fits_fields(value, origin)
    if (
        issubclass(origin, enum.Enum)
        or getattr(origin, "_is_protocol", False)
        or (origin.__module__, origin.__qualname__) in _LENIENT
    ):
        return "unknown"
    return "unknown" if isinstance(value, origin) else "foreign"


def _fits_scalar(value: Any, accepted: tuple[type, ...]) -> Fit:
    # A value from Python may be of a subclass, such as `numpy.float64`.
    from_toml = type(value) in (str, bool, int, float, datetime.datetime, datetime.date, datetime.time)
    return "yes" if type(value) in accepted or (not from_toml and isinstance(value, accepted)) else "no"


def wrong_places(value: Any, annotation: Any, where: KeyPath) -> list[tuple[KeyPath, Any, Any]]:
    """Returns the innermost values that do not fit, each as a tuple of its key path, the value and its annotation."""
    if fits(value, annotation) != "no":
        return []
    whole = unwrap(annotation)
    annotation = _likeliest_member(value, whole)
    inner: list[tuple[Any, Any, KeyPath]] = []
    if isinstance(value, list) and is_array(get_origin(annotation) or annotation):
        inner = [
            (item, wanted, (*where, place))
            for place, (item, wanted) in enumerate(zip(value, _item_annotations(value, annotation), strict=False))
        ]
    elif isinstance(value, Mapping) and get_origin(annotation) in MAPPINGS and len(get_args(annotation)) == 2:
        inner = [(item, get_args(annotation)[1], (*where, key)) for key, item in value.items()]
    innermost = [wrong for item, wanted, place in inner for wrong in wrong_places(item, wanted, place)]
    # TOML may have no values of the likeliest member, such as a dict of tensors, but it has values of another member.
    return innermost or [(where, value, annotation if fits(value, annotation) == "no" else whole)]


def convert_value(value: Any, annotation: Any) -> Any:
    """Converts a TOML value to an annotated type that TOML lacks, such as a path, a tuple, a set or a dataclass."""
    if annotation is Parameter.empty or not isinstance(value, str | list | Mapping):
        return value
    annotation = _likeliest_member(value, unwrap(annotation))
    origin = get_origin(annotation) or annotation
    if not isinstance(origin, type) or fits(value, annotation) == "no":
        return value
    if isinstance(value, str):
        return origin(value) if issubclass(origin, PurePath) else value
    if isinstance(value, list) and is_array(origin):
        items = [
            convert_value(item, wanted)
            for item, wanted in zip(value, _item_annotations(value, annotation), strict=True)
        ]
        return origin(items) if origin in (tuple, set, frozenset, collections.deque) else items
    if isinstance(value, Mapping) and _has_fields(origin) and not is_component(value):
        signature = signature_of(origin)
        wanted_by_name = (
            {parameter.name: parameter.annotation for parameter in signature.parameters} if signature else {}
        )
        # Calling a `TypedDict` returns a plain dict.
        return origin(**{key: convert_value(item, wanted_by_name.get(key, Any)) for key, item in value.items()})
    if isinstance(value, Mapping) and origin in MAPPINGS and len(get_args(annotation)) == 2:
        return {key: convert_value(item, get_args(annotation)[1]) for key, item in value.items()}
    return value


def fields_class_of(value: Any, annotation: Any) -> type | None:
    """Returns the dataclass or the `TypedDict` that a table describes; None if the annotation has no such class."""
    if not isinstance(value, Mapping) or is_component(value):
        return None
    annotation = _likeliest_member(value, unwrap(annotation))
    return annotation if _has_fields(annotation) else None


def _has_fields(annotation: Any) -> bool:
    return isinstance(annotation, type) and (is_typed_dict(annotation) or dataclasses.is_dataclass(annotation))


def annotation_below(annotation: Any, key: str | int) -> Any:
    """Returns the annotation of an entry of an array, a table, a `TypedDict` or a dataclass; `Any` if it is unknown.

    Metadata that `Annotated` adds to an array or a table belongs to each entry.

    >>> annotation_below(list[int] | dict[str, float] | None, 0), annotation_below(list[int] | dict[str, float], "a")
    (<class 'int'>, <class 'float'>)
    """
    found = tuple(_below(annotation, key))
    return Union[found] if found else Any  # noqa: UP007 (the number of members is unknown)


def _below(annotation: Any, key: str | int) -> Iterator[Any]:
    for member, added in annotated_members(annotation, object):
        origin, args = get_origin(member) or member, get_args(member)
        if isinstance(key, int) and is_array(origin):
            fixed = origin is tuple and args and args[-1] is not Ellipsis
            entries = args[key : key + 1] if fixed else args[:1] or (Any,)
            yield from (_annotated(entry, added) for entry in entries)
        elif isinstance(key, str) and origin in MAPPINGS:
            yield _annotated(args[1] if len(args) == 2 else Any, added)
        elif isinstance(key, str) and is_typed_dict(origin):
            yield from (wanted for name, wanted in fields_of(origin).items() if name == key)
        elif isinstance(key, str) and isinstance(origin, type) and dataclasses.is_dataclass(origin):
            signature = signature_of(origin)
            field = signature.get(key) if signature else None
            if field is not None and field.annotation is not Parameter.empty:
                yield field.annotation


def _annotated(annotation: Any, added: tuple[Any, ...]) -> Any:
    parts = (annotation, *added)
    return typing.Annotated[parts] if added else annotation


def is_component(value: Any) -> bool:
    """Checks whether a value is a nested table that names a component by `path`.

    >>> is_component({"path": "torch.nn.ReLU"}), is_component({"path": "a.wav", "gain": 2})
    (True, False)
    """
    return isinstance(value, Mapping) and isinstance(value.get("path"), str) and value.keys() <= {"path", "args"}


def _likeliest_member(value: Any, annotation: Any) -> Any:
    """Returns the member of a union that the value fits.

    If the value fits no member, returns the only member that is an array or a table like the value. If there is not
    exactly one such member, returns the whole union.
    """
    members = members_of(annotation)
    if len(members) == 1:
        return members[0]
    fitting = [member for member in members if fits(value, member) == "yes"]
    alike = [member for member in members if _same_form(value, get_origin(member) or member)]
    return fitting[0] if fitting else alike[0] if len(alike) == 1 else annotation


def _same_form(value: Any, origin: Any) -> bool:
    if isinstance(value, list):
        return is_array(origin)
    table = origin in MAPPINGS or _has_fields(origin)
    return isinstance(value, Mapping) and table


def _any_of(answers: list[Fit]) -> Fit:
    """Combines the answers of `fits` for the members of a union.

    `no` takes precedence over `foreign`: if TOML has values of any member of the union, the value is wrong.
    """
    order: tuple[Fit, ...] = ("yes", "unknown", "no")
    return next((fit for fit in order if fit in answers), "foreign")


def _all_of(answers: list[Fit]) -> Fit:
    order: tuple[Fit, ...] = ("no", "foreign", "unknown")
    return next((fit for fit in order if fit in answers), "yes")


def _item_annotations(items: list[Any], annotation: Any) -> list[Any]:
    """Returns one annotation for each item of an array."""
    args = get_args(annotation)
    if not args:
        return [Any] * len(items)
    if get_origin(annotation) is tuple and args[-1] is not Ellipsis:
        return list(args)
    return [args[0]] * len(items)


def _fits_array(value: Any, annotation: Any) -> Fit:
    if not isinstance(value, list) or not get_args(annotation):
        return "yes" if isinstance(value, list) else "no"
    wanted_items = _item_annotations(value, annotation)
    if len(wanted_items) != len(value):
        return "no"
    return _all_of([fits(item, wanted) for item, wanted in zip(value, wanted_items, strict=True)])


def _fits_mapping(value: Any, args: tuple[Any, ...]) -> Fit:
    if not isinstance(value, Mapping):
        return "no"
    return _all_of([fits(item, args[1]) for item in value.values()]) if len(args) == 2 else "yes"


def _fits_fields(value: Any, cls: type) -> Fit:
    """Checks whether a table fits a dataclass or a `TypedDict`."""
    if not isinstance(value, Mapping):
        return "no"
    signature = signature_of(cls)
    if signature is None or signature.open:
        return "unknown"
    value = with_inline(value, cls)
    required = {parameter.name for parameter in signature.parameters if parameter.default is Parameter.empty}
    if not required <= value.keys() <= set(signature.names()):
        return "no"
    return _all_of(
        [
            fits(value[parameter.name], parameter.annotation)
            for parameter in signature.parameters
            if parameter.name in value
        ]
    )
