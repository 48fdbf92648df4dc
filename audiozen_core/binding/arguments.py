"""Arguments against a signature: everything that can be said about them before anything is built."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Mapping
from inspect import Parameter
from typing import Any

from audiozen_core.binding.messages import described, type_text, wanted
from audiozen_core.binding.problem import Place, Problem, spelled
from audiozen_core.binding.signature import Signature, return_type, signature_of
from audiozen_core.binding.values import converted, dataclass_of, wrong_places
from audiozen_core.diagnostics.suggestions import did_you_mean, near_names
from audiozen_core.kinds import KINDS, Kind, kind_of

__all__ = ["Problem", "build", "check_arguments", "expected_kind", "signature_text"]


def check_arguments(
    target: Any, args: Mapping[str, Any], *, injected: Collection[str] = (), name: str = ""
) -> list[Problem]:
    """All that is wrong with the arguments of a call `target(**args)`, without calling anything.

    Nested tables with a `path` of their own are left alone: what they build is not known here.

    Args:
        target: the class, function or other callable that a `path` led to.
        args: the arguments as the TOML gives them, plain values.
        injected: names that AudioZEN passes itself: never missing, and not settable.
        name: what to call the target in the messages, such as its path (default: its own name).

    Returns:
        The problems: those of the given arguments first, in their order, then the missing ones. Empty where the
        signature can't be read (some builtins).

    >>> from fractions import Fraction
    >>> [problem.message for problem in check_arguments(Fraction, {"numerater": 1})]
    ['unknown argument `numerater` for Fraction']
    """
    signature = signature_of(target)
    return [] if signature is None else _problems(signature, args, injected, name or signature.name, ())


def signature_text(target: Any, injected: Collection[str] = (), *, keep: Collection[str] = ()) -> str:
    """The signature in one line, without annotations, such as `RAdam(params, lr=0.001, betas=(0.9, 0.999), …)`.

    Args:
        target: the callable.
        injected: names that AudioZEN passes itself; more than two of them are shortened to `…`.
        keep: names of parameters to show even if the text has to be cut.

    Returns:
        The text, at most about 88 characters, or "" where the signature can't be read.
    """
    signature = signature_of(target)
    return "" if signature is None else signature.text(injected, keep)


def build(target: Any, args: Mapping[str, Any], injected: Mapping[str, Any] | None = None) -> Any:
    """Calls the target with the arguments, and with those injected values that its signature takes.

    Values are made what the annotation asks for where TOML has no such type: a `Path` from a string, a tuple or a set
    from an array, a dataclass from a table. A callable that takes any keyword (and one whose signature can't be read)
    gets all injected values.

    Args:
        target: the callable.
        args: the arguments as the TOML gives them (nested tables already built).
        injected: values that AudioZEN passes itself, by name.

    Returns:
        What the target returns.

    Raises:
        Exception: whatever the target raises.

    >>> from fractions import Fraction
    >>> build(Fraction, {"denominator": 4}, {"numerator": 3, "section": "model"})
    Fraction(3, 4)
    """
    signature = signature_of(target)
    injected = injected or {}
    if signature is None:
        return target(**args, **injected)
    by_position = [found.name for found in signature.parameters if found.kind is Parameter.POSITIONAL_ONLY]
    annotations = {found.name: found.annotation for found in signature.parameters}
    values = {key: converted(value, annotations.get(key, Any)) for key, value in args.items()}
    values |= {key: value for key, value in injected.items() if signature.open or key in annotations}
    positional = [values.pop(key) for key in by_position if key in values]
    return target(*positional, **values)


def expected_kind(section: str, target: Any) -> Problem | None:
    """Whether the object is what the section asks for.

    Args:
        section: the section of the TOML, such as `model_g` or `train_dataset`, or the name of a kind.
        target: the object that its `path` led to.

    Returns:
        A problem of kind `not_callable`, `abstract` or `wrong_kind`, or None. A function may stand for a class (it is
        called as a factory), except for a trainer.
    """
    kind = kind_of(section)
    what = kind.with_article if kind else f"a {section}"
    name = getattr(target, "__qualname__", None) or f"a {type(target).__name__}"
    if not callable(target):
        return Problem("not_callable", f"`{name}` is not a class or a function: it can't be called to build {what}")
    if inspect.isabstract(target):
        methods = ", ".join(f"`{method}`" for method in sorted(target.__abstractmethods__))
        message = f"`{name}` is abstract and can't be built: it lacks {methods}"
        return Problem("abstract", message, label=f"name a subclass that defines {methods}")
    if kind is None or not kind.base:
        return None
    if not isinstance(target, type):
        return _kind_of_factory(kind, name, target)
    if _is_subclass(target, kind.base):
        return None
    message = f"`{name}` is not {what}: it is not a subclass of `{kind.base}`"
    other = kind_by_base(target)
    return Problem("wrong_kind", message, label=f"{other.with_article} belongs in [{other.name}]" if other else "")


def kind_by_base(target: type) -> Kind | None:
    """The kind whose base class the target is derived from, if there is one."""
    return next((kind for kind in KINDS.values() if kind.base and _is_subclass(target, kind.base)), None)


def _kind_of_factory(kind: Kind, name: str, target: Any) -> Problem | None:
    if kind.name == "trainer":
        return Problem("wrong_kind", f"`{name}` is not a class: a trainer is a subclass of `{kind.base}`")
    made, base = return_type(target), _loaded_class(kind.base)
    # A factory may promise a parent of the base class and still return the right thing.
    if made and not _is_subclass(made, kind.base) and not (base and issubclass(base, made)):
        message = f"`{name}` returns a `{made.__qualname__}`, which is not a subclass of `{kind.base}`"
        return Problem("wrong_kind", message)
    return None


def _is_subclass(target: type, base: str) -> bool:
    found = _loaded_class(base)
    return found is not None and issubclass(target, found)


def _loaded_class(dotted: str) -> type | None:
    """The class of that name, if its module is imported: nothing can be derived from a class that is not."""
    module, _, name = dotted.rpartition(".")
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


def _problems(
    signature: Signature, args: Mapping[str, Any], injected: Collection[str], name: str, where: Place
) -> list[Problem]:
    """The problems of one table of arguments, which lies at `where`."""
    found: list[Problem] = []
    for key, value in args.items():
        parameter = signature.get(key)
        if parameter is None:
            if not signature.open:
                found.append(_unknown(signature, key, args, injected, name, where))
        elif key in injected:
            message = f"argument `{key}` of {name} is set by AudioZEN"
            found.append(Problem("injected_argument", message, key, (*where, key), "leave it out"))
        elif parameter.kind is Parameter.POSITIONAL_ONLY:
            found.append(_positional(signature, key, name, (*where, key)))
        else:
            found += _wrong_values(signature, parameter, value, name, (*where, key))
    # What was only misspelt is not missing as well.
    meant = {problem.suggestion for problem in found if problem.kind == "unknown_argument"}
    for parameter in signature.parameters:
        if parameter.default is not Parameter.empty or parameter.name in {*args, *injected, *meant}:
            continue
        if parameter.kind is Parameter.POSITIONAL_ONLY:
            found.append(_positional(signature, parameter.name, name, where))
        else:
            message = f"missing argument `{parameter.name}` for {name}"
            text = signature.text(injected, keep=[parameter.name])
            found.append(Problem("missing_argument", message, parameter.name, where, signature=text))
    return found


def _unknown(
    signature: Signature, key: str, args: Mapping[str, Any], injected: Collection[str], name: str, where: Place
) -> Problem:
    free = [known for known in signature.names() if known not in injected and known not in args]
    near = near_names(key, free)
    message = f"unknown argument `{key}` for {name}"
    if signature.ignoring and not near:
        message = f"argument `{key}` of {name} would be ignored: it takes any keyword and does nothing with it"
    elif not signature.names():
        message += ", which takes no arguments"
    text = signature.text(injected, keep=near[:1])
    suggestion = near[0] if near else None
    return Problem("unknown_argument", message, key, (*where, key), did_you_mean(near), suggestion, text)


def _positional(signature: Signature, key: str, name: str, where: Place) -> Problem:
    message = f"argument `{key}` of {name} can be given by position only, which a TOML can't do"
    return Problem("positional_only", message, key, where, "wrap it in a function of your own", None, signature.text())


def _wrong_values(signature: Signature, parameter: Parameter, value: Any, name: str, where: Place) -> list[Problem]:
    if parameter.annotation is Parameter.empty or _same(value, parameter.default):
        return []
    found: list[Problem] = []
    for place, wrong, annotation in wrong_places(value, parameter.annotation, where):
        if cls := dataclass_of(wrong, annotation):
            inner = signature_of(cls)
            found += _problems(inner, wrong, (), cls.__qualname__, place) if inner else []
            continue
        label, suggestion = wanted(wrong, annotation)
        message = f"argument `{spelled(place)}` of {name} takes `{type_text(annotation)}`, not {described(wrong)}"
        text = signature.text(keep=[parameter.name])
        found.append(Problem("wrong_type", message, parameter.name, place, label, suggestion, text))
    return found


def _same(value: Any, default: Any) -> bool:
    """Whether a value is the default, which is right whatever the annotation says."""
    return type(value) is type(default) and isinstance(value, str | int | float) and bool(value == default)
