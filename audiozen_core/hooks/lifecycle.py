"""The hooks of a run: which plugins take part, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pluggy

from audiozen_core.errors import HookError
from audiozen_core.hooks import specs
from audiozen_core.hooks.answers import first_answer_counts
from audiozen_core.hooks.calls import checked_call, checked_wrapper
from audiozen_core.hooks.checks import HOOK_NAMES, hook_findings
from audiozen_core.hooks.order import in_order
from audiozen_core.hooks.plugin import Plugin
from audiozen_core.hooks.trainer_protocol import Trainer

__all__ = ["HOOK_NAMES", "Lifecycle", "Plugin"]

# The last calls of a run: a plugin that has a file to close must be called even if another one has failed.
_CALL_ALL_DESPITE_ERRORS = ("on_exception", "on_teardown")


class Lifecycle(specs.Hooks[Trainer]):
    """All hooks of one run as attributes: `lifecycle.on_epoch_start(trainer=trainer, epoch=1)`.

    Calls take keyword arguments only. A hook without implementations is a plain function that returns at once, so that
    it does not slow a training step down. Plugins run in the order of `specs.PHASES`, within a phase as their `before`
    and `after` say, and otherwise by name. What an implementation returns is checked against its spec.

    Args:
        plugins: the plugins that take part.

    Raises:
        HookError: two plugins have the same name; a class has a mistake that `hook_findings` finds; or `before` and
            `after` contradict each other or the phases.
    """

    def __init__(self, plugins: Iterable[Plugin] = ()) -> None:
        plugins = list(plugins)
        for plugin in plugins:
            _check(plugin)
        self.plugins = tuple(in_order(plugins))
        manager = pluggy.PluginManager(specs.PROJECT)
        manager.add_hookspecs(specs.Hooks)
        # pluggy calls plugins in reverse order of registration.
        for plugin in reversed(self.plugins):
            if manager.has_plugin(plugin.name):
                raise HookError(
                    f"two hook plugins are called `{plugin.name}`", remedy="give one of them another `name`"
                )
            manager.register(plugin.instance, name=plugin.name)
        by_name = {plugin.name: plugin for plugin in self.plugins}
        for name in HOOK_NAMES:
            caller = getattr(manager.hook, name)
            implementations = caller.get_hookimpls()
            for implementation in implementations:
                checked = checked_wrapper if implementation.wrapper else checked_call
                owner = by_name[implementation.plugin_name]
                implementation.function = checked(implementation.function, owner, name)
            silent = _no_answer if first_answer_counts(name) else _no_answers
            call = _call_all(caller) if name in _CALL_ALL_DESPITE_ERRORS else caller
            setattr(self, name, call if implementations else silent)
        self._manager = manager
        self._by_name = by_name

    def wrap_component(self, section: str, component: Any) -> Any:
        """Calls `on_component_built`; each plugin gets what the previous one returned. Returns the component to use."""
        for implementation in reversed(self._manager.hook.on_component_built.get_hookimpls()):
            values = {"section": section, "component": component}
            answer = implementation.function(*(values[name] for name in implementation.argnames))
            component = component if answer is None else answer
        return component

    def order(self, hook: str) -> list[Plugin]:
        """Returns the plugins that implement a hook, first to last."""
        names = [implementation.plugin_name for implementation in getattr(self._manager.hook, hook).get_hookimpls()]
        return [self._by_name[name] for name in reversed(names)]

    def wrappers(self, hook: str) -> set[str]:
        """Returns the names of the plugins that wrap the other implementations of a hook."""
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        return {implementation.plugin_name for implementation in implementations if implementation.wrapper}

    def stateful(self) -> Iterator[tuple[str, Any]]:
        """Name and object of each plugin that has `state_dict` and `load_state_dict`."""
        for plugin in self.plugins:
            if hasattr(plugin.instance, "state_dict") and hasattr(plugin.instance, "load_state_dict"):
                yield plugin.name, plugin.instance


def _no_answer(**_: Any) -> None:
    return None


def _no_answers(**_: Any) -> list[Any]:
    return []


def _check(plugin: Plugin) -> None:
    """Raises an error for a mistake that pluggy would silently ignore."""
    if isinstance(plugin.instance, type):
        raise HookError(f"{plugin} is a class, not an object", remedy="create an object of the class")
    for finding in hook_findings(type(plugin.instance)):
        raise HookError(f"{plugin}: {finding.message}", notes=finding.notes)


def _call_all(caller: Any) -> Callable[..., list[Any]]:
    """Calls every implementation even if some raise, and raises the first error at the end."""
    errors: list[Exception] = []

    def deferring(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            try:
                return function(*args)
            except Exception as error:
                errors.append(error)
                return None

        return call

    for implementation in caller.get_hookimpls():
        if not implementation.wrapper:
            implementation.function = deferring(implementation.function)

    def call(**arguments: Any) -> list[Any]:
        errors.clear()
        answers: list[Any] = caller(**arguments)
        if errors:
            raise errors[0]
        return answers

    return call
