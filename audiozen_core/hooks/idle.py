"""Which hooks of a plugin do nothing for now, as the plugin says itself."""

from __future__ import annotations

from audiozen_core.errors import AudioZenError, HookError
from audiozen_core.hooks.checks import implemented_hooks
from audiozen_core.hooks.plugin import Plugin
from audiozen_core.hooks.trainer_protocol import Trainer


def idle_hooks(plugin: Plugin, trainer: Trainer) -> frozenset[str]:
    """Returns the names that the method `idle_hooks(trainer)` of a plugin returns; none if it has no such method.

    Raises:
        HookError: the method fails, or returns a name that is not a hook of the plugin.
    """
    ask = getattr(plugin.instance, "idle_hooks", None)
    if ask is None:
        return frozenset()
    try:
        idle = frozenset(ask(trainer))
    except AudioZenError:
        raise
    except Exception as error:
        raise HookError.caused_by(error, f"{plugin} failed in `idle_hooks`:") from error
    if strange := sorted(idle - implemented_hooks(type(plugin.instance)).keys()):
        raise HookError(
            f"{plugin} names `{strange[0]}` in `idle_hooks`, which is none of its hooks",
            remedy="return the names of hooks that the class implements",
        )
    return idle
