"""The state of a hook plugin in checkpoints."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from audiozen_core.hooks.plugin import Plugin
from audiozen_core.hooks.trainer_protocol import Trainer


def state_name(plugin: Plugin) -> str:
    """Returns the name of a hook plugin's state in checkpoints."""
    return f"hook_{plugin.name}"


class HookState:
    """Saves and restores the state of a hook plugin, and passes the trainer to methods that take it.

    Args:
        hook: an object with `state_dict` and `load_state_dict`. Each method may have an additional argument `trainer`.
        trainer: the trainer of the run.
    """

    def __init__(self, hook: Any, trainer: Trainer) -> None:
        self._hook = hook
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        """Returns the state."""
        state: dict[str, Any] = self._hook.state_dict(**self._trainer_for(self._hook.state_dict))
        return state

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Restores what `state_dict` returned."""
        self._hook.load_state_dict(state_dict, **self._trainer_for(self._hook.load_state_dict))

    def _trainer_for(self, method: Callable[..., Any]) -> dict[str, Trainer]:
        return {"trainer": self._trainer} if "trainer" in inspect.signature(method).parameters else {}
