"""Writes the TOML lines that use a component, ready to paste."""

from __future__ import annotations

import types
from inspect import Parameter
from typing import Any, Literal, get_args, get_origin

from audiozen_core.binding.annotations import MAPPINGS, is_array, members_of, unwrap
from audiozen_core.binding.messages import type_text
from audiozen_core.binding.ranges import wrong_numbers
from audiozen_core.binding.signature import default_text, signature_of
from audiozen_core.diagnostics.toml_text import as_toml_value, toml_text
from audiozen_core.kinds import KINDS

_ZEROS: dict[Any, Any] = {bool: False, str: ""}
# The first of these numbers within the range of an argument is its placeholder.
_NUMBERS: dict[Any, tuple[float, ...]] = {int: (0, 1, 2), float: (0.0, 1.0, 0.5)}


def snippet(kind: str, path: str, target: Any) -> str:
    """Returns the TOML lines that use a component in an experiment, with every argument and its default.

    Arguments without a default come first, with a placeholder of the right type and the comment `required`. An argument
    that is None by default is written as a comment, because TOML has no `None`.

    Example:
        >>> from fractions import Fraction
        >>> def scale(gain: float, mode: str = "peak", limit: float | None = None): ...
        >>> print(snippet("loss_function", "scale", scale))
        [loss_function]
        path = "scale"
        [loss_function.args]
        gain = 0.0  # required
        mode = "peak"
        # limit: float, None by default
    """
    if kind == "commands":
        return f"# a command of the shell\n# audiozen {path} --help"
    if kind == "hookspecs":
        return f"# hooks that other plugins implement, and that the plugin calls: {path}"
    lines = _arguments(kind, target)
    if kind == "section":
        return "\n".join([f"[{path.rpartition(':')[2]}]", *lines])
    if kind == "metric":
        entry = f"{{ path = {toml_text(path)} }}" if any("required" in line for line in lines) else toml_text(path)
        *table, key = KINDS[kind].key
        return f"[{'.'.join(table)}]\n{key} = [{entry}]"
    header = f"[[{kind}]]" if kind == "hooks" else f"[{kind}]"
    args = [f"[{kind}.args]", *lines] if lines else []
    return "\n".join([header, f"path = {toml_text(path)}", *args])


def _arguments(kind: str, target: Any) -> list[str]:
    signature = signature_of(target)
    injected = KINDS[kind].injected
    parameters = [each for each in signature.parameters if each.name not in injected] if signature else []
    # If a loss is a function, the trainer passes its first two arguments, estimate and target, with each call. So these
    # two arguments do not belong in the TOML file.
    called_later = kind == "loss_function" and not isinstance(target, type)
    if called_later and sum(each.default is each.empty for each in parameters) >= 2:
        parameters = parameters[2:]
    parameters = [each for each in parameters if each.kind is not Parameter.POSITIONAL_ONLY]
    parameters.sort(key=lambda parameter: parameter.default is not Parameter.empty)
    return [_line(parameter) for parameter in parameters]


def _line(parameter: Parameter) -> str:
    if parameter.default is Parameter.empty:
        return f"{parameter.name} = {toml_text(_placeholder(parameter.annotation))}  # required"
    words = f"{parameter.name}: {type_text(parameter.annotation)}" if _is_known(parameter) else parameter.name
    if parameter.default is None:
        return f"# {words}, None by default"
    try:
        return f"{parameter.name} = {toml_text(as_toml_value(parameter.default))}"
    except TypeError:
        return f"# {words}, {default_text(parameter.default)} by default"


def _is_known(parameter: Parameter) -> bool:
    return parameter.annotation is not Parameter.empty and unwrap(parameter.annotation) is not Any


def _placeholder(annotation: Any) -> Any:
    """Returns a value of the annotated type, which the user will replace."""
    for member in members_of(annotation):
        origin = get_origin(member) or member
        if origin is types.NoneType:
            continue
        if origin is Literal:
            return get_args(member)[0]
        if origin in _NUMBERS:
            return next((value for value in _NUMBERS[origin] if not any(wrong_numbers(value, annotation))), 0)
        if origin in _ZEROS:
            return _ZEROS[origin]
        if is_array(origin):
            return []
        if origin in MAPPINGS:
            return {}
    return ""
