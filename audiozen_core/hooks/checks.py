"""Finds the hooks that a class implements, and mistakes in the class that pluggy would silently ignore."""

from __future__ import annotations

import ast
import contextlib
import functools
import inspect
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from inspect import Parameter
from typing import Any

from audiozen_core.binding.self_attributes import may_set
from audiozen_core.binding.source import syntax_tree
from audiozen_core.diagnostics.codes import HOOK
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.hooks import specs
from audiozen_core.hooks.answers import defined_in
from audiozen_core.hooks.phases import DEFAULT_PHASE, PHASES
from audiozen_core.hooks.plugin import meant_plugin, names
from audiozen_core.hooks.spec_lookup import OWN, Spec, first_answer_counts, plugin_specs, spec_of

HOOK_NAMES = tuple(OWN)
"""The names of all hooks of AudioZEN, in the order of `specs`."""

_MARKER = f"{specs.PROJECT}_impl"
# The arguments of these hooks differ from plugin to plugin, so one wrapper can't surround the calls of all plugins.
_UNWRAPPABLE = (
    *("on_component_built", "on_checkpoint_save", "on_checkpoint_load"),
    *("step_scalars", "epoch_scalars", "evaluation_scalars"),
)


def implemented_hooks(cls: type) -> dict[str, str]:
    """Returns the hooks that a class implements, each with the name of the method that implements it.

    AudioZEN's own hooks come first, in the order of `specs`, then the hooks of plugins.

    >>> from audiozen_core.hooks.marker import hookimpl
    >>> class Announce:
    ...     @hookimpl
    ...     def on_epoch_end(self, epoch): ...
    >>> implemented_hooks(Announce)
    {'on_epoch_end': 'on_epoch_end'}
    """
    found = {
        _hook_of(name, function): name
        for name, function in ((name, _function(member)) for name, member in _members(cls))
        if function and hasattr(function, _MARKER)
    }
    plugin_hooks = [hook for hook in found if hook not in OWN and spec_of(hook)]
    return {hook: found[hook] for hook in (*OWN, *plugin_hooks) if hook in found}


def hook_findings(cls: type, present: Collection[str] = ()) -> list[Diagnostic]:
    """Returns the mistakes in the class of a hook plugin that would make a run fail or silently disable a hook.

    The mistakes are: an unknown phase, hook or hook argument; a method with the name of a hook but without the marker;
    a method whose code would not run, or would not get all of its arguments; and options of pluggy that would bypass
    the phases or swallow exceptions. Each finding has the file and the line of the method. A name in `before` or
    `after` that is probably misspelt is only a warning, because it may belong to a plugin that is not installed.

    Args:
        cls: the class.
        present: the names of the hook plugins of the run; empty outside a run.
    """
    found = [*_phase_findings(cls), *_order_findings(cls, present), *_repetition_findings(cls)]
    for name, member in _members(cls):
        function = _function(member)
        if function and hasattr(function, _MARKER):
            found += _method_findings(name, function, static=isinstance(member, staticmethod))
        elif _is_marked(member):
            kind = type(member).__name__
            found.append(
                _finding(f"`@hookimpl` of `{name}` is above `{kind}`", "put `@hookimpl` directly above `def`", function)
            )
        # With `on_epoch_end = None`, a subclass switches off an inherited hook.
        elif name in HOOK_NAMES and member is not None:
            found.append(_finding(f"`{name}` is not marked as a hook", "put `@hookimpl` directly above it", function))
    return found


def _repetition_findings(cls: type) -> Iterator[Diagnostic]:
    first: dict[str, str] = {}
    for name, member in _members(cls):
        function = _function(member)
        if function and hasattr(function, _MARKER):
            hook = _hook_of(name, function)
            if hook in first:
                message = f"`{first[hook]}` and `{name}` are both marked as `{hook}`"
                yield _finding(message, "mark only one of the methods, and call the other method from it", function)
            first.setdefault(hook, name)


def _phase_findings(cls: type) -> Iterator[Diagnostic]:
    # If `phase` is a property, only an object has the value, and `Lifecycle` checks it.
    phase = inspect.getattr_static(cls, "phase", DEFAULT_PHASE)
    if not _is_computed(phase) and phase not in PHASES:
        yield _class_finding(f"`{phase}` is not a phase", _meant(str(phase), PHASES), cls)


def _order_findings(cls: type, present: Collection[str]) -> Iterator[Diagnostic]:
    for attribute in ("before", "after"):
        value = inspect.getattr_static(cls, attribute, ())
        if _is_computed(value):
            continue
        if fault := order_fault(attribute, value):
            yield _class_finding(*fault, cls)
            continue
        for name in names(value):
            if similar := meant_plugin(name, present):
                message = f"`{attribute}` names the hook plugin `{name}`, which is not installed"
                yield replace(_class_finding(message, f"did you mean `{similar}`?", cls), severity="warning")


def order_fault(attribute: str, value: object) -> tuple[str, str] | None:
    """Returns an error message and a remedy for an invalid value of `before` or `after`; None if the value is valid."""
    are_names = isinstance(value, tuple | list) and all(isinstance(name, str) for name in value)
    if isinstance(value, str) or are_names:
        return None
    return f"`{attribute}` is not a tuple of the names of hook plugins", f'write `{attribute} = ("amp",)`'


def has_fixed_order(cls: type) -> bool:
    """Returns whether `phase`, `before` and `after` are the same for all objects of the class.

    They may differ if one of them is a property or may be set in the constructor.
    """
    return not any(
        _is_computed(inspect.getattr_static(cls, name, ())) or may_set(cls, name)
        for name in ("phase", "before", "after")
    )


def _is_computed(value: object) -> bool:
    """Returns whether a class attribute is a descriptor, such as a property, so that only objects have its value."""
    return hasattr(type(value), "__get__")


def _members(cls: type) -> Iterator[tuple[str, Any]]:
    """Yields the members of a class and its bases, except `object`. Does not call properties or the metaclass."""
    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__[:-1]):
        members |= vars(base)
    yield from members.items()


def _function(member: Any) -> Callable[..., Any] | None:
    """Returns the function of a method, a static method or a class method; None for anything else."""
    if isinstance(member, staticmethod | classmethod):
        member = member.__func__
    return member if inspect.isfunction(member) else None


def _is_marked(member: Any) -> bool:
    # `getattr` would find a marker on an object that creates attributes on access, such as a mock.
    return inspect.getattr_static(member, _MARKER, None) is not None and not isinstance(member, type)


def _hook_of(name: str, function: Callable[..., Any]) -> str:
    return str(getattr(function, _MARKER).get("specname") or name)


def _method_findings(name: str, function: Callable[..., Any], *, static: bool) -> Iterator[Diagnostic]:
    options = getattr(function, _MARKER)
    hook = _hook_of(name, function)
    spec = spec_of(hook)
    if spec is None:
        # An optional hook may belong to a later version of AudioZEN, or to a plugin that is not installed.
        if not options.get("optionalhook"):
            known = dict.fromkeys([*HOOK_NAMES, *(other for other, _, _ in plugin_specs())])
            yield _finding(f"`{hook}` is not a hook", _meant(hook, known), function)
        return
    if name in HOOK_NAMES and name != hook:
        yield _finding(f"`{name}` is marked as the hook `{hook}`", f"write `@hookimpl.{name}`", function)
    for message, remedy in (*_option_faults(hook, options), *_argument_faults(hook, spec, function, static)):
        yield _finding(message, remedy, function)
    # Check the function inside decorators, because a decorator such as `contextmanager` turns a generator function into
    # a normal function.
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        yield _finding(f"`{hook}` is async, so its code would not run", "write `def`", function)
    elif inspect.isgeneratorfunction(function) and not (options.get("wrapper") or options.get("hookwrapper")):
        remedy = "remove `yield`; or mark it with `wrapper=True` to run it around the other implementations"
        yield _finding(f"`{hook}` has a `yield`, so its code would not run", remedy, function)
    elif options.get("wrapper"):
        remedy = "write `return (yield)` where the other implementations run"
        if not inspect.isgeneratorfunction(function):
            yield _finding(f"the wrapper of `{hook}` has no `yield`", remedy, function)
        elif first_answer_counts(spec) and not _returns_something(function):
            message = f"the wrapper of `{hook}` returns nothing, so the answer of the other implementations is lost"
            yield _finding(message, remedy, function)


def _option_faults(hook: str, options: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if options.get("tryfirst") or options.get("trylast"):
        yield f"`{hook}` is marked `tryfirst` or `trylast`", "give the class an attribute `phase`, `before` or `after`"
    if options.get("hookwrapper"):
        yield f"`{hook}` is marked `hookwrapper`, which may hide errors", "write `wrapper=True`"
    if options.get("wrapper") and hook in _UNWRAPPABLE:
        yield f"`{hook}` can't be wrapped", "implement it without `wrapper=True`"


@functools.cache
def _spec_arguments(spec: Spec) -> list[str]:
    return list(inspect.signature(spec).parameters)[1:]


def _argument_faults(hook: str, spec: Spec, function: Callable[..., Any], static: bool) -> Iterator[tuple[str, str]]:
    """Yields the errors in the arguments of a hook method. Pluggy passes only arguments without a default, by name."""
    known = _spec_arguments(spec)
    arguments = list(inspect.signature(function).parameters.values())
    if not static:
        first = arguments[0] if arguments else None
        if first is None or first.kind in (Parameter.KEYWORD_ONLY, Parameter.VAR_KEYWORD) or first.name in known:
            yield f"the method `{hook}` has no `self`", "write `self` as its first argument"
            return
        arguments = arguments[1:] if first.kind is not Parameter.VAR_POSITIONAL else arguments
    for argument in arguments:
        if argument.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD):
            stars = "*" if argument.kind is Parameter.VAR_POSITIONAL else "**"
            yield (
                f"`{stars}{argument.name}` of `{hook}` is always empty",
                f"list the arguments that the method needs: {', '.join(known)}",
            )
        elif argument.name not in known:
            yield f"hook `{hook}` has no argument `{argument.name}`", _meant(argument.name, known)
        elif argument.kind is Parameter.KEYWORD_ONLY:
            yield f"the argument `{argument.name}` of `{hook}` is keyword-only, so it is not passed", "remove the `*`"
        elif argument.default is not Parameter.empty:
            message = f"the argument `{argument.name}` of `{hook}` has a default, so it is not passed"
            yield message, "remove the default"


def _returns_something(function: Callable[..., Any]) -> bool:
    """Returns whether a generator function has a `return` with a value. Returns True if the source can't be read."""
    parsed = syntax_tree(inspect.unwrap(function))
    return parsed is None or any(isinstance(node, ast.Return) and node.value for node in ast.walk(parsed[0]))


def _finding(message: str, remedy: str, function: Callable[..., Any] | None = None) -> Diagnostic:
    return Diagnostic(HOOK, message, notes=(*(defined_in(function) if function else ()), f"help: {remedy}"))


def _class_finding(message: str, remedy: str, cls: type) -> Diagnostic:
    notes = [f"help: {remedy}"]
    # A class that was created at run time may have no source file.
    with contextlib.suppress(OSError, TypeError):
        file, line = inspect.getsourcefile(cls), inspect.getsourcelines(cls)[1]
        notes.insert(0, f"defined in: {file}:{line}, in {cls.__qualname__}")
    return Diagnostic(HOOK, message, notes=tuple(notes))


def _meant(word: str, known: Iterable[str]) -> str:
    known = list(known)
    return did_you_mean(nearest(word, known)) or f"use one of {', '.join(known)}"
