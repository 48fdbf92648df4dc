"""Builds one checked component, with the components in its arguments."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from torch import nn

from audiozen_core.binding.arguments import call_arguments
from audiozen_core.config.checked import CheckedComponent
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.errors import AudioZenError, BuildError
from audiozen_core.logging import log_fields


def build_component(checked: CheckedComponent, injected: Mapping[str, Any] | None = None) -> Any:
    """Builds the components within `args`, then calls the object that `path` names with `args`.

    A function that the trainer calls later, such as a loss, is not called here. Instead, its `args` are bound with
    `functools.partial`. Injected arguments are passed if the object accepts them.

    Raises:
        BuildError: the constructor of the component, or of a component within its arguments, raised an error.
    """
    # Several sections may use the same class, so each line that the constructor logs contains the section.
    with log_fields(section=checked.component.header):
        return _build(checked, injected or {})


def _build(checked: CheckedComponent, injected: Mapping[str, Any]) -> Any:
    component = checked.component
    args = {
        name: _build_nested(value, (*component.key, "args", name), checked, injected)
        for name, value in component.args.items()
    }
    try:
        positional, keywords = call_arguments(checked.signature, args, injected)
        if checked.called_later:
            return functools.partial(checked.target, *positional, **keywords) if args else checked.target
        made = checked.target(*positional, **keywords)
    except AudioZenError as error:
        error.notes = (*error.notes, f"named in: {checked.origin}")
        raise
    # `sys.exit(0)` in a constructor would end the run as if it had succeeded.
    except (Exception, SystemExit) as error:
        raise BuildError.caused_by(
            error,
            f"{component.header} can't be built: `{component.path}` raised",
            remedy=f"check {component.args_header}",
            notes=(f"named in: {checked.origin}",),
        ) from error
    if isinstance(made, nn.Module) and not hasattr(made, "_modules"):
        raise BuildError(
            f"{component.header} can't be used: `{type(made).__name__}.__init__` does not call `super().__init__()`",
            remedy="call it in the first line of `__init__`",
            notes=(f"named in: {checked.origin}", *checked.resolved.notes),
        )
    return made


def _build_nested(value: Any, key: KeyPath, owner: CheckedComponent, injected: Mapping[str, Any]) -> Any:
    """Copies a value within the arguments of `owner`, and builds each component in it."""
    if inner := owner.nested.get(key):
        # A nested component gets an injected argument only if its signature names that argument. A function with
        # `**kwargs`, for example, does not get the injected arguments.
        made = build_component(inner, {name: each for name, each in injected.items() if takes(inner, name)})
        if not inner.field:
            return made
        return {inner.field: made, **{name: entry for name, entry in value.items() if name not in ("path", "args")}}
    if isinstance(value, list):
        return [_build_nested(item, (*key, index), owner, injected) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {name: _build_nested(item, (*key, name), owner, injected) for name, item in value.items()}
    return value


def takes(checked: CheckedComponent, name: str) -> bool:
    """Returns whether a component has an argument with this name that the TOML file does not set."""
    signature = checked.signature
    return signature is not None and signature.get(name) is not None and name not in checked.component.args
