"""Annotations for arguments whose value is the name of a component, as a string."""

from __future__ import annotations

import dataclasses
from typing import Any

from audiozen_core.binding.annotations import ComponentMarker, annotated_members, marked_kind
from audiozen_core.binding.values import fits


@dataclasses.dataclass(frozen=True, slots=True)
class ComponentName(ComponentMarker):
    """Marks a string in an annotation as the `path` of a component: `Annotated[str, ComponentName("metric")]`.

    `audiozen check` resolves the string like the `path` of a section, and reports a name that does not exist. The
    argument still gets the string. Entries of an array or a table can have this annotation, too. If the TOML file has a
    table with `path` and `args` instead of the string, the component is looked up among components of the same kind,
    and the argument gets the built object.

    Args:
        kind: the kind of the component: the name of an entry-point group without `audiozen.`.

    Raises:
        ValueError: plugins do not publish components of this kind.

    Example:
        >>> from typing import Annotated
        >>> def trainer(components, *, metrics: list[Annotated[str, ComponentName("metric")]]): ...
    """


def kind_of_component(annotation: Any) -> str | None:
    """Returns the kind in the `ComponentName` of an annotation; None if the annotation has no `ComponentName`.

    >>> from typing import Annotated
    >>> kind_of_component(Annotated[str, ComponentName("metric")] | None), kind_of_component(str)
    ('metric', None)
    """
    return marked_kind(annotation, ComponentName)


def is_component_name(value: Any, annotation: Any) -> bool:
    """Checks whether a value is the name of a component.

    If the annotation is a union that also has a `Literal`, the strings of the `Literal` are not names.
    """
    others = [member for member, markers in annotated_members(annotation, ComponentName) if not markers]
    return (
        isinstance(value, str)
        and kind_of_component(annotation) is not None
        and not any(fits(value, other) == "yes" for other in others)
    )
