"""The hooks of a run: who takes part, in which order, and what becomes of their errors."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pluggy

from audiozen_core import hookspecs
from audiozen_core.errors import AudioZenError, HookError
from audiozen_core.near import did_you_mean, near_names

HOOK_NAMES = tuple(
    name for name, value in vars(hookspecs).items() if hasattr(value, f"{hookspecs.PROJECT}_spec") and callable(value)
)


@dataclass(frozen=True, slots=True)
class Plugin:
    """One object whose methods answer hooks.

    Attributes:
        name: unique in the run.
        instance: the object.
        origin: where it comes from, for messages, such as `default` or `baseline.toml:31`.
        distribution: the installed distribution that brought it, "" for a local one.
    """

    name: str
    instance: Any
    origin: str = "default"
    distribution: str = ""

    @property
    def phase(self) -> str:
        """The phase that the plugin asks for."""
        phase: str = getattr(self.instance, "phase", hookspecs.DEFAULT_PHASE)
        return phase

    def __str__(self) -> str:
        owner = f" of {self.distribution}" if self.distribution else ""
        return f"hook plugin `{self.name}`{owner} ({self.origin})"


class Lifecycle:
    """All hooks of one run as attributes: `lifecycle.on_epoch_start(trainer=trainer, epoch=1)`.

    Calls take keyword arguments only. A hook that nobody implements is a function that does nothing, so that a training
    step does not pay for it. The order is `hookspecs.PHASES`, then the name.

    Args:
        plugins: who takes part.

    Raises:
        HookError: two plugins with one name, an unknown phase, hook or hook argument, a hook without its marker.
    """

    def __init__(self, plugins: Iterable[Plugin] = ()) -> None:
        self.plugins = tuple(sorted(plugins, key=_order))
        manager = pluggy.PluginManager(hookspecs.PROJECT)
        manager.add_hookspecs(hookspecs)
        # pluggy calls the plugin registered last first.
        for plugin in reversed(self.plugins):
            if manager.has_plugin(plugin.name):
                raise HookError(
                    f"two hook plugins are called `{plugin.name}`", remedy="give one of them another `name`"
                )
            _check(plugin)
            manager.register(plugin.instance, name=plugin.name)
        for name in HOOK_NAMES:
            caller = getattr(manager.hook, name)
            implementations = caller.get_hookimpls()
            for implementation in implementations:
                if not (implementation.wrapper or implementation.hookwrapper):
                    owner = next(plugin for plugin in self.plugins if plugin.name == implementation.plugin_name)
                    implementation.function = _naming(implementation.function, owner, name)
            first_only = (getattr(hookspecs, name).audiozen_spec or {}).get("firstresult")
            silent = _no_answer if first_only else _no_answers
            setattr(self, name, caller if implementations else silent)
        self._manager = manager

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(f"there is no hook `{name}`")

    def built(self, section: str, component: Any) -> Any:
        """Calls `on_component_built`; each plugin gets what the one before it made of the component."""
        for implementation in reversed(self._manager.hook.on_component_built.get_hookimpls()):
            values = {"section": section, "component": component}
            answer = implementation.function(*(values[name] for name in implementation.argnames))
            component = component if answer is None else answer
        return component

    def order(self, hook: str) -> list[Plugin]:
        """Who answers a hook, first to last."""
        names = [implementation.plugin_name for implementation in getattr(self._manager.hook, hook).get_hookimpls()]
        by_name = {plugin.name: plugin for plugin in self.plugins}
        return [by_name[name] for name in reversed(names)]

    def stateful(self) -> Iterator[tuple[str, Any]]:
        """Name and object of each plugin that has `state_dict` and `load_state_dict`."""
        for plugin in self.plugins:
            if hasattr(plugin.instance, "state_dict") and hasattr(plugin.instance, "load_state_dict"):
                yield plugin.name, plugin.instance


def _no_answer(**_: Any) -> None:
    return None


def _no_answers(**_: Any) -> list[Any]:
    return []


def _order(plugin: Plugin) -> tuple[int, str]:
    if plugin.phase not in hookspecs.PHASES:
        raise HookError(
            f"{plugin} asks for the unknown phase `{plugin.phase}`", remedy=f"use one of {', '.join(hookspecs.PHASES)}"
        )
    return hookspecs.PHASES.index(plugin.phase), plugin.name


def _check(plugin: Plugin) -> None:
    """Refuses what pluggy would pass over in silence."""
    if isinstance(plugin.instance, type):
        raise HookError(f"{plugin} is a class, not an object of it", remedy="call it")
    marker = f"{hookspecs.PROJECT}_impl"
    # Looked up on the class, so that no property of the plugin is run.
    for name in dir(type(plugin.instance)):
        member = inspect.getattr_static(type(plugin.instance), name)
        if not inspect.isfunction(member):
            continue
        if hasattr(member, marker):
            _check_hook(plugin, name, member)
        elif name in HOOK_NAMES:
            raise HookError(f"{plugin}: `{name}` is not marked as a hook", remedy="put `@hookimpl` above it")


def _check_hook(plugin: Plugin, name: str, function: Callable[..., Any]) -> None:
    target = getattr(function, f"{hookspecs.PROJECT}_impl").get("specname") or name
    if target not in HOOK_NAMES:
        raise HookError(f"{plugin}: there is no hook `{target}`", remedy=_did_you_mean(target, HOOK_NAMES))
    known = list(inspect.signature(getattr(hookspecs, target)).parameters)
    for argument in list(inspect.signature(function).parameters)[1:]:
        if argument not in known:
            near = _did_you_mean(argument, known)
            raise HookError(f"{plugin}: hook `{target}` has no argument `{argument}`", remedy=near)


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    known = list(known)
    return did_you_mean(near_names(word, known)) or f"the known ones are {', '.join(known)}"


def _naming(function: Callable[..., Any], plugin: Plugin, hook: str) -> Callable[..., Any]:
    """The function, with its errors naming the plugin; errors made for the user and Ctrl-C pass as they are."""

    @functools.wraps(function)
    def named(*args: Any) -> Any:
        try:
            return function(*args)
        except AudioZenError:
            raise
        except Exception as error:
            raise HookError(f"{plugin} failed in `{hook}`: {type(error).__name__}: {error}") from error

    return named
