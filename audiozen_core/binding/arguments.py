"""Checks arguments from a TOML file against the signature of the target, which is the callable that a `path` names."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Mapping
from inspect import Parameter
from typing import Any

from audiozen_core.binding.inline_components import inline_field, with_inline
from audiozen_core.binding.messages import label_and_suggestion, type_text
from audiozen_core.binding.ranges import wrong_numbers
from audiozen_core.binding.signature import Signature, return_type, signature_of
from audiozen_core.binding.values import convert_value, fields_class_of, wrong_places
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.key_path import KeyPath, spell, spell_key
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.diagnostics.toml_text import value_in_words
from audiozen_core.kinds import KINDS, Kind, kind_of

# If a table has more unknown arguments than this, none of them gets a suggestion. Comparing more names would take
# seconds, and such a table was obviously written for something else.
_MOST_COMPARED = 1000


def check_arguments(
    signature: Signature | None,
    args: Mapping[str, Any],
    *,
    injected: Collection[str] = (),
    name: str = "",
    noun: str = "argument",
) -> list[Diagnostic]:
    """Finds every mistake in the arguments of a call `target(**args)`, without calling anything.

    Nested tables with their own `path` are not checked, because the type of the object that they build is unknown here.
    The `place` of each finding begins with `args`. The findings about the arguments in `args` come first, in the order
    of the arguments, followed by the findings about missing arguments. If `signature` is None, there are no findings.

    Args:
        signature: the signature of the target; None if the signature can't be read.
        args: the arguments from the TOML file, as plain values.
        injected: the names of the arguments that AudioZEN passes itself. `args` may not have them.
        name: the name of the target in messages, such as its path; by default, the name in the signature.
        noun: the word for an argument in messages.

    >>> from fractions import Fraction
    >>> [finding.message for finding in check_arguments(signature_of(Fraction), {"numerater": 1})]
    ['unknown argument `numerater` for Fraction']
    """
    if signature is None:
        return []
    return _findings(signature, args, injected, name or signature.name, ("args",), noun)


def build(target: Any, args: Mapping[str, Any], injected: Mapping[str, Any] | None = None) -> Any:
    """Calls the target with the arguments, and with the injected values that its signature accepts.

    If TOML has no values of the annotated type, the TOML value is converted: a string to a `Path`, an array to a tuple
    or a set, a table to a dataclass. A callable that accepts any keyword, or whose signature can't be read, gets all
    injected values.

    Args:
        target: the callable.
        args: the arguments from the TOML file, with objects instead of nested components.
        injected: the values that AudioZEN passes itself, by name.

    Returns:
        The return value of the target.

    Raises:
        Exception: whatever the target raises.

    >>> from fractions import Fraction
    >>> build(Fraction, {"denominator": 4}, {"numerator": 3, "section": "model"})
    Fraction(3, 4)
    """
    positional, keywords = call_arguments(signature_of(target), args, injected)
    return target(*positional, **keywords)


def call_arguments(
    signature: Signature | None, args: Mapping[str, Any], injected: Mapping[str, Any] | None = None
) -> tuple[list[Any], dict[str, Any]]:
    """Returns the positional arguments and the keyword arguments with which `build` calls a target."""
    injected = injected or {}
    if signature is None:
        return [], {**args, **injected}
    by_position = [each.name for each in signature.parameters if each.kind is Parameter.POSITIONAL_ONLY]
    annotations = {each.name: each.annotation for each in signature.parameters}
    values = {key: convert_value(value, annotations.get(key, Any)) for key, value in args.items()}
    values |= {key: value for key, value in injected.items() if signature.open or key in annotations}
    positional = [values.pop(key) for key in by_position if key in values]
    return positional, values


def check_kind(section: str, target: Any) -> Diagnostic | None:
    """Checks whether an object is of the kind that a section needs. Returns None if so, otherwise a finding.

    The object may be a class, or a function that returns an object of the kind. Only a trainer must be a class.

    Args:
        section: the section of the TOML file, such as `model_g` or `train_dataset`, or the name of a kind.
        target: the object that the section's `path` names.
    """
    kind = kind_of(section)
    what = kind.with_article if kind else f"a {section}"
    name = getattr(target, "__qualname__", None) or type(target).__name__
    if not callable(target):
        subject = f"`{name}`" if hasattr(target, "__qualname__") else f"an object of `{name}`"
        message = f"{subject} is not a class or a function, so it can't be called to build {what}"
        return _about_path(config_codes.NOT_CALLABLE, message)
    if inspect.isabstract(target):
        methods = ", ".join(f"`{method}`" for method in sorted(target.__abstractmethods__))
        message = f"`{name}` is abstract and can't be built, because it lacks {methods}"
        return _about_path(config_codes.ABSTRACT, message, f"use a subclass that defines {methods}")
    if kind is None or not kind.base:
        return None
    if not isinstance(target, type):
        return _kind_of_factory(kind, name, target)
    if is_subclass(target, kind.base):
        return None
    message = f"`{name}` is not {what}, because it is not a subclass of `{kind.base}`"
    other = kind_by_base(target)
    label = f"{other.with_article} belongs in [{other.name}]" if other else ""
    return _about_path(config_codes.WRONG_KIND, message, label)


def kind_by_base(target: type) -> Kind | None:
    """Returns the kind whose base class the target is derived from, or None."""
    return next((kind for kind in KINDS.values() if kind.base and is_subclass(target, kind.base)), None)


def _about_path(code: str, message: str, label: str = "") -> Diagnostic:
    return Diagnostic(code, message, label=label, place=("path",))


def _kind_of_factory(kind: Kind, name: str, target: Any) -> Diagnostic | None:
    if kind.name == "trainer":
        message = f"`{name}` is not a class: a trainer is a subclass of `{kind.base}`"
        return _about_path(config_codes.WRONG_KIND, message)
    made, base = return_type(target), loaded_class(kind.base)
    # If a factory is annotated with a parent of the base class, it may still return an object of the base class.
    if made and not is_subclass(made, kind.base) and not (base and issubclass(base, made)):
        message = f"`{name}` returns a `{made.__qualname__}`, which is not a subclass of `{kind.base}`"
        return _about_path(config_codes.WRONG_KIND, message)
    return None


def is_subclass(target: type, base: str) -> bool:
    """Checks whether a class is derived from the class with a dotted name, without importing that class."""
    found = loaded_class(base)
    return found is not None and issubclass(target, found)


def loaded_class(dotted: str) -> type | None:
    """Returns the class with a dotted name; None if its module is not imported, so that it has no subclasses yet."""
    module, _, name = dotted.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


def _findings(
    signature: Signature, args: Mapping[str, Any], injected: Collection[str], name: str, place: KeyPath, noun: str
) -> list[Diagnostic]:
    """Returns the findings about the table of arguments at `place`."""
    found: list[Diagnostic] = []
    # The names that the user meant by misspelt arguments. Arguments with these names are not reported as missing.
    intended: set[str] = set()
    allowed = [allowed for allowed in signature.names() if allowed not in injected]
    unused = [other for other in allowed if other not in args]
    unknown = 0
    texts: dict[str | None, str] = {}
    for key, value in args.items():
        parameter = signature.get(key)
        if parameter is None:
            if not signature.open:
                unknown += 1
                # The argument that the user meant may already have a value, for example from an extended file.
                near = (nearest(key, unused) or nearest(key, allowed)) if unknown <= _MOST_COMPARED else None
                if near:
                    intended.add(near)
                if near not in texts:
                    texts[near] = signature.text(near)
                found.append(_unknown(signature, key, near, name, (*place, key), noun, texts[near]))
        elif key in injected:
            message = f"argument `{key}` of {name} is set by AudioZEN"
            found.append(
                Diagnostic(config_codes.INJECTED_ARGUMENT, message, label="leave it out", place=(*place, key), at="key")
            )
        elif parameter.kind is Parameter.POSITIONAL_ONLY:
            found.append(_positional(signature, key, name, (*place, key)))
        else:
            found += _wrong_values(signature, parameter, value, name, (*place, key), noun)
    for parameter in signature.parameters:
        if parameter.default is not Parameter.empty or parameter.name in {*args, *injected, *intended}:
            continue
        if parameter.kind is Parameter.POSITIONAL_ONLY:
            found.append(_positional(signature, parameter.name, name, place))
        else:
            message = f"missing {noun} `{parameter.name}` for {name}"
            notes = (f"signature: {signature.text(parameter.name)}",)
            found.append(Diagnostic(config_codes.MISSING_ARGUMENT, message, notes=notes, place=place))
    return found


def _unknown(
    signature: Signature, key: str, near: str | None, name: str, place: KeyPath, noun: str, text: str
) -> Diagnostic:
    message = f"unknown {noun} `{key}` for {name}"
    if signature.ignoring and not near:
        message = f"{noun} `{key}` of {name} would be ignored: {name} accepts any keyword and does nothing with it"
    elif not signature.names():
        message += ", which takes no arguments"
    return Diagnostic(
        config_codes.UNKNOWN_ARGUMENT,
        message,
        label=did_you_mean(near),
        suggestion=spell_key(near) if near else None,
        notes=(f"signature: {text}",),
        place=place,
        at="key",
    )


def _positional(signature: Signature, key: str, name: str, place: KeyPath) -> Diagnostic:
    return Diagnostic(
        config_codes.POSITIONAL_ONLY,
        f"argument `{key}` of {name} can only be passed by position, which is not possible in a TOML file",
        label="wrap the component in your own function",
        notes=(f"signature: {signature.text()}",),
        place=place,
        at="key",
    )


def _wrong_values(
    signature: Signature, parameter: Parameter, value: Any, name: str, place: KeyPath, noun: str
) -> list[Diagnostic]:
    if parameter.annotation is Parameter.empty or _same(value, parameter.default):
        return []
    found: list[Diagnostic] = []
    for inner, wrong, annotation in wrong_places(value, parameter.annotation, place):
        if cls := fields_class_of(wrong, annotation):
            fields = signature_of(cls)
            table = with_inline(wrong, cls)
            field = inline_field(cls)
            if field and field.name not in table:
                message = f"{noun} `{spell(inner[1:])}` of {name} has no `path`"
                notes = ("help: add `path`, the name of a component",)
                found.append(Diagnostic(config_codes.MISSING_ARGUMENT, message, notes=notes, place=inner))
                continue
            found += _findings(fields, table, (), cls.__qualname__, inner, noun) if fields else []
            continue
        label, suggestion = label_and_suggestion(wrong, annotation)
        # The key path begins with `args`, which messages leave out.
        message = f"{noun} `{spell(inner[1:])}` of {name} takes `{type_text(annotation)}`, not {value_in_words(wrong)}"
        notes = (f"signature: {signature.text(parameter.name)}",)
        found.append(
            Diagnostic(
                config_codes.WRONG_ARGUMENT_TYPE, message, label=label, suggestion=suggestion, notes=notes, place=inner
            )
        )
    if found:
        return found
    for inner, wrong in wrong_numbers(value, parameter.annotation, place):
        message = f"{noun} `{spell(inner[1:])}` of {name} {wrong}"
        notes = (f"signature: {signature.text(parameter.name)}",)
        found.append(Diagnostic(config_codes.BAD_VALUE, message, notes=notes, place=inner))
    return found


def _same(value: Any, default: Any) -> bool:
    """Returns whether a value equals the default. The default is accepted even if it contradicts the annotation."""
    return type(value) is type(default) and isinstance(value, str | int | float) and bool(value == default)
