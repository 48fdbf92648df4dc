"""A hook plugin that implements every hook and records the calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from audiozen_core.hooks import specs
from audiozen_core.hooks.checks import HOOK_NAMES
from audiozen_core.hooks.marker import hookimpl


class HookRecorder:
    """Records every call of every hook, in order, and returns None.

    Attributes:
        calls: the name of the hook and the arguments of each call.

    Example:
        >>> from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
        >>> recorder = HookRecorder()
        >>> lifecycle = Lifecycle([Plugin("recorder", recorder)])
        >>> answers = lifecycle.on_epoch_start(trainer=None, epoch=1)
        >>> recorder.transcript
        ['on_epoch_start epoch=1']
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    @property
    def names(self) -> list[str]:
        """The hooks in the order in which they were called."""
        return [name for name, _ in self.calls]

    @property
    def transcript(self) -> list[str]:
        """One line per call: the hook, and its string, integer and boolean arguments."""
        return [
            " ".join([name, *(f"{key}={value}" for key, value in given.items() if isinstance(value, str | int))])
            for name, given in self.calls
        ]

    def calls_of(self, hook: str) -> list[dict[str, Any]]:
        """Returns the arguments of each call of one hook."""
        return [given for name, given in self.calls if name == hook]


def _recording(hook: str) -> Callable[..., None]:
    """Returns a method that takes all arguments of the hook's spec.

    pluggy reads the names of arguments from the code object, so the method is compiled with those names.
    """
    names = list(inspect.signature(getattr(specs.Hooks, hook)).parameters)[1:]
    given = ", ".join(f"{name}={name}" for name in names)
    namespace: dict[str, Callable[..., None]] = {}
    exec(f"def {hook}(self, {', '.join(names)}): self.calls.append(({hook!r}, dict({given})))", namespace)
    return hookimpl(namespace[hook])


for _name in HOOK_NAMES:
    setattr(HookRecorder, _name, _recording(_name))
