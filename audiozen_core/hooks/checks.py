"""Finds the hooks that a class implements, and its mistakes, before anything runs. Pluggy ignores such mistakes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from audiozen_core.diagnostics.codes import HOOK
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.hooks import specs

HOOK_NAMES = tuple(name for name, value in vars(specs.Hooks).items() if hasattr(value, f"{specs.PROJECT}_spec"))
"""Every hook of the lifecycle, in the order of `specs`."""

_MARKER = f"{specs.PROJECT}_impl"
# Each plugin gets arguments of its own, so there is no single call to wrap.
_UNWRAPPABLE = ("on_component_built", "on_checkpoint_save", "on_checkpoint_load", "epoch_scalars", "evaluation_scalars")


def implemented_hooks(cls: type) -> dict[str, str]:
    """Returns the hooks that a class implements, in the order of `specs`, each with its method.

    >>> class Announce:
    ...     @specs.hookimpl
    ...     def on_epoch_end(self, epoch): ...
    >>> implemented_hooks(Announce)
    {'on_epoch_end': 'on_epoch_end'}
    """
    found = {_hook_of(name, function): name for name, function in _methods(cls) if hasattr(function, _MARKER)}
    return {hook: found[hook] for hook in HOOK_NAMES if hook in found}


def hook_findings(cls: type) -> list[Diagnostic]:
    """Lists the mistakes in a class of hooks that would make a run fail, or silently have no effect.

    The mistakes are: an unknown phase, hook or hook argument; a method named like a hook but not marked as one; and
    options of pluggy that would bypass the phases or swallow exceptions.
    """
    found = list(_phase_findings(cls))
    for name, function in _methods(cls):
        if hasattr(function, _MARKER):
            found += _method_findings(name, function)
        elif name in HOOK_NAMES:
            found.append(_finding(f"`{name}` is not marked as a hook", "put `@hookimpl` above it"))
    return found


def _phase_findings(cls: type) -> Iterator[Diagnostic]:
    # If `phase` is a property, only an object has its value. `Lifecycle` checks that.
    phase = inspect.getattr_static(cls, "phase", specs.DEFAULT_PHASE)
    if isinstance(phase, str) and phase not in specs.PHASES:
        near = _meant(phase, specs.PHASES)
        yield _finding(f"there is no phase `{phase}`", near)


def _methods(cls: type) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Yields the functions of a class, found without running its properties."""
    for name in dir(cls):
        member = inspect.getattr_static(cls, name)
        if isinstance(member, staticmethod | classmethod):
            member = member.__func__
        if inspect.isfunction(member):
            yield name, member


def _hook_of(name: str, function: Callable[..., Any]) -> str:
    return str(getattr(function, _MARKER).get("specname") or name)


def _method_findings(name: str, function: Callable[..., Any]) -> Iterator[Diagnostic]:
    options = getattr(function, _MARKER)
    hook = _hook_of(name, function)
    if hook not in HOOK_NAMES:
        # A hook marked as optional may belong to a later version of AudioZEN.
        if not options.get("optionalhook"):
            yield _finding(f"there is no hook `{hook}`", _meant(hook, HOOK_NAMES))
        return
    known = list(inspect.signature(getattr(specs.Hooks, hook)).parameters)[1:]
    for argument in list(inspect.signature(function).parameters)[1:]:
        if argument not in known:
            yield _finding(f"hook `{hook}` has no argument `{argument}`", _meant(argument, known))
    if options.get("tryfirst") or options.get("trylast"):
        yield _finding(f"`{hook}` is marked `tryfirst` or `trylast`", "give the class an attribute `phase`")
    if options.get("hookwrapper"):
        yield _finding(f"`{hook}` is marked `hookwrapper`, which may hide errors", "write `wrapper=True`")
    if options.get("wrapper") and hook in _UNWRAPPABLE:
        yield _finding(f"`{hook}` can't be wrapped", "implement it without `wrapper=True`")
    if options.get("wrapper") and not inspect.isgeneratorfunction(function):
        yield _finding(
            f"the wrapper of `{hook}` has no `yield`", "write `return (yield)` where the other implementations run"
        )


def _finding(message: str, remedy: str) -> Diagnostic:
    return Diagnostic(HOOK, message, notes=(f"help: {remedy}",))


def _meant(word: str, known: Iterable[str]) -> str:
    known = list(known)
    return did_you_mean(nearest(word, known)) or f"the known ones are {', '.join(known)}"
