"""Annotations that say that a table names a component, and has further keys about it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from inspect import Parameter
from typing import Any

from audiozen_core.binding.annotations import annotated_members, members_of
from audiozen_core.binding.signature import signature_of
from audiozen_core.kinds import GROUPS


@dataclasses.dataclass(frozen=True, slots=True)
class InlineComponent:
    """Says that a field of a dataclass is the component that `path` and `args` of its table name.

    The other keys of the table are the other fields. The component is checked and built like any other that is nested
    in arguments, and is looked up among those of a kind.

    Args:
        kind: the kind of the component, one that plugins publish: its entry point group without `audiozen.`.

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

    kind: str

    def __post_init__(self) -> None:
        if self.kind not in GROUPS:
            raise ValueError(f"plugins publish no components of the kind {self.kind!r}, only {', '.join(GROUPS)}")


def inline_field(annotation: Any) -> Parameter | None:
    """Returns the field of a table of this annotation that its `path` and `args` are; None if there is none."""
    for member in members_of(annotation):
        if isinstance(member, type) and dataclasses.is_dataclass(member):
            signature = signature_of(member)
            for parameter in signature.parameters if signature else ():
                if inline_kind(parameter.annotation):
                    return parameter
    return None


def inline_kind(annotation: Any) -> str | None:
    """Returns the kind of the component that the annotation of a field takes from the table itself."""
    members = annotated_members(annotation, InlineComponent)
    return next((marker.kind for _, markers in members for marker in markers), None)


def with_inline(value: Mapping[str, Any], cls: type) -> Mapping[str, Any]:
    """Returns the fields of a dataclass for a table, in which `path` and `args` are one field."""
    field = inline_field(cls)
    if field is None or "path" not in value:
        return value
    inner = {key: value[key] for key in ("path", "args") if key in value}
    return {field.name: inner, **{key: entry for key, entry in value.items() if key not in inner}}
