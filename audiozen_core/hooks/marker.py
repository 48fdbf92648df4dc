"""The decorator `hookimpl`. Its types are in `marker.pyi`, which is generated from the specs of the hooks."""

from __future__ import annotations

import functools
from typing import Any

import pluggy

from audiozen_core.hooks.specs import PROJECT


class HookMarker:
    """Marks a method as the implementation of a hook.

    `@hookimpl` marks a method with the name of its hook. `@hookimpl.on_epoch_end` names the hook explicitly, so that a
    type checker finds misspelt names and checks the arguments and the return type against the spec.

    Args:
        project: the name of the project, for pluggy.
    """

    def __init__(self, project: str) -> None:
        self._mark = pluggy.HookimplMarker(project)

    def __call__(self, function: Any = None, /, **options: Any) -> Any:
        """Marks a function; without a function, returns a decorator.

        Args:
            function: the function.
            options: `wrapper=True` for a generator function that runs around all other implementations;
                `optionalhook=True` for a hook that only some versions of AudioZEN have.
        """
        if isinstance(function, property | classmethod):
            raise TypeError(
                f"`@hookimpl` marks methods, and this is a {type(function).__name__}: remove that decorator"
            )
        return self._mark(function, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        # A misspelt name is accepted here, because `hook_findings` reports it later with the line. If this method
        # raised an `AttributeError`, the import would fail, and all other classes of the module would be unavailable,
        # too.
        return functools.partial(self, specname=name)


hookimpl = HookMarker(PROJECT)
"""Marks a method as the implementation of a hook.

With `@hookimpl`, the name of the method is the name of the hook. `@hookimpl.on_epoch_end` names the hook explicitly.
`@hookimpl(wrapper=True)` marks a wrapper.
"""
