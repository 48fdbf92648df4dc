"""Annotations for tables that name a component and also have other keys, such as the weight of a loss."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from inspect import Parameter
from typing import Any

from audiozen_core.binding.annotations import ComponentMarker, marked_kind, members_of
from audiozen_core.binding.signature import signature_of


@dataclasses.dataclass(frozen=True, slots=True)
class InlineComponent(ComponentMarker):
    """Marks the field of a dataclass that holds a component.

    The keys `path` and `args` of the table name the component and its arguments. The other keys of the table become the
    other fields. The component is checked and built like any nested component. The name in `path` is looked up among
    the components of `kind`.

    Args:
        kind: the kind of the component: the name of an entry-point group without `audiozen.`.

    Example:
        >>> from collections.abc import Callable
        >>> from typing import Annotated
        >>> @dataclasses.dataclass
        ... class Weighted:
        ...     loss: Annotated[Callable, InlineComponent("loss_function")]
        ...     weight: float = 1.0
        >>> with_inline({"path": "si_snr", "weight": 0.5}, Weighted)
        {'loss': {'path': 'si_snr'}, 'weight': 0.5}
    """


def inline_field(annotation: Any) -> Parameter | None:
    """Returns the field marked as `InlineComponent` in the dataclass of an annotation; None if no field is marked."""
    for member in members_of(annotation):
        if isinstance(member, type) and dataclasses.is_dataclass(member):
            signature = signature_of(member)
            for parameter in signature.parameters if signature else ():
                if inline_kind(parameter.annotation):
                    return parameter
    return None


def inline_kind(annotation: Any) -> str | None:
    """Returns the kind in the `InlineComponent` of a field's annotation; None if the field is not marked."""
    return marked_kind(annotation, InlineComponent)


def with_inline(value: Mapping[str, Any], cls: type) -> Mapping[str, Any]:
    """Returns a table with one key for each field of the dataclass: `path` and `args` move into the marked field."""
    field = inline_field(cls)
    if field is None or "path" not in value:
        return value
    inner = {key: value[key] for key in ("path", "args") if key in value}
    return {field.name: inner, **{key: entry for key, entry in value.items() if key not in inner}}
