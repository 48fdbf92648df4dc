"""Finds the spec of a hook, among AudioZEN's own hooks and the hooks that plugins provide.

A plugin publishes a class whose methods are marked with `hookspec`, in the entry point group `audiozen.hookspecs`. The
class is imported only if an implementation does not have the name of one of AudioZEN's own hooks.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from typing import Any

from audiozen_core.errors import AudioZenError
from audiozen_core.hooks import nonfinite, specs
from audiozen_core.registry.index import PluginIndex, installed_index
from audiozen_core.registry.paths import load_entry, version_error

KIND = "hookspecs"
"""The kind of component under which plugins publish classes of specs."""

Spec = Callable[..., Any]
"""The function of a spec, marked with `hookspec`."""

_MARKER = f"{specs.PROJECT}_spec"


def specs_in(cls: type) -> dict[str, Spec]:
    """Returns the specs in a class, by the name of the hook, in the order of their definition."""
    members = {name: member for base in reversed(cls.__mro__) for name, member in vars(base).items()}
    return {name: member for name, member in members.items() if inspect.isfunction(member) and hasattr(member, _MARKER)}


OWN = specs_in(specs.Hooks)
"""The specs of AudioZEN's own hooks."""


def is_audiozen_spec(spec: Spec) -> bool:
    """Returns whether a spec belongs to AudioZEN itself."""
    return OWN.get(spec.__name__) is spec


def spec_of(hook: str) -> Spec | None:
    """Returns the spec of a hook; None if no hook has this name. If several plugins provide the hook, returns the
    first.
    """
    return OWN.get(hook) or next((spec for name, spec, _ in plugin_specs() if name == hook), None)


def plugin_specs() -> Iterator[tuple[str, Spec, str]]:
    """Yields the name and the spec of each hook that a plugin provides, and the distribution with its version.

    A class that can't be imported is skipped, and `plugins doctor` reports it. Looking up specs does not count as using
    a plugin, so the record of a run does not list these plugins.
    """
    yield from _specs_of_plugins(installed_index())


# Without the cache, a failing import would be repeated for each method of each hook plugin. The cache stays valid,
# because `installed_index` returns the same object until plugins are installed or switched off.
@functools.lru_cache(maxsize=1)
def _specs_of_plugins(index: PluginIndex) -> tuple[tuple[str, Spec, str], ...]:
    found: list[tuple[str, Spec, str]] = []
    for entry in index.entries(KIND):
        if version_error(entry):
            continue
        try:
            cls = load_entry(entry).target
        except AudioZenError:
            continue
        if isinstance(cls, type):
            found += [(name, spec, entry.origin) for name, spec in specs_in(cls).items()]
    return tuple(found)


def first_answer_counts(spec: Spec) -> bool:
    """Returns whether only the first answer of a hook counts, that is, the first result that is not None."""
    return bool((getattr(spec, _MARKER) or {}).get("firstresult"))


def return_annotation(spec: Spec) -> Any:
    """Returns the return annotation of a spec; `Any` if it can't be evaluated.

    Without an annotation, returns `Any` for a hook whose first answer counts, and None for any other hook.

    >>> return_annotation(OWN["stop_reason"])
    str | None
    """
    annotation = inspect.signature(spec).return_annotation
    if annotation is inspect.Signature.empty:
        return Any if first_answer_counts(spec) else None
    if not isinstance(annotation, str):
        return annotation
    try:
        # The annotations in `specs` use names from `nonfinite` that `specs` imports only for type checkers.
        return eval(annotation, {**vars(nonfinite), **vars(sys.modules[spec.__module__])})
    except Exception:
        return Any


def spec_faults(cls: Any) -> Iterator[tuple[str, str]]:
    """Yields the errors in a class of specs that a plugin publishes, each as a message and a remedy."""
    if not isinstance(cls, type) or not (found := specs_in(cls)):
        yield f"`{getattr(cls, '__qualname__', cls)}` has no hook", "mark the methods of a class with `@hookspec`"
        return
    for hook, spec in found.items():
        owners = sorted({origin for name, _, origin in plugin_specs() if name == hook})
        if hook in OWN:
            yield f"`{hook}` is one of AudioZEN's own hooks", "begin the names of your hooks with a prefix"
        elif len(owners) > 1:
            yield f"the hook `{hook}` belongs to {' and '.join(owners)}", "begin the names of your hooks with a prefix"
        if return_annotation(spec) is not None and not first_answer_counts(spec):
            yield (
                f"`{hook}` returns a value, but is not marked as a hook whose first answer counts",
                ("write `@hookspec(firstresult=True)`, or annotate it with `-> None`"),
            )
