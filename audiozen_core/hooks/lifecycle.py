"""The hooks of a run as callables. Each callable calls the hook plugins in order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import SimpleNamespace
from typing import Any, TypeVar

import pluggy

from audiozen_core.binding.arguments import loaded_class
from audiozen_core.errors import HookError
from audiozen_core.hooks import specs
from audiozen_core.hooks.calls import Implementation, call_all, checked_call, checked_wrapper, flat_call
from audiozen_core.hooks.checks import HOOK_NAMES, hook_findings, implemented_hooks, order_fault
from audiozen_core.hooks.idle import idle_hooks
from audiozen_core.hooks.order import calling_order
from audiozen_core.hooks.plugin import Plugin
from audiozen_core.hooks.scalars import ReadOnlyScalars, as_scalar
from audiozen_core.hooks.spec_lookup import Spec, first_answer_counts, spec_faults, specs_in
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.hooks.watching import ANSWERED_FOR_THE_TRAINER, HookWatch, watched_call, watched_wrapper
from audiozen_core.kinds import Mode, kind_of

__all__ = ["HOOK_NAMES", "Lifecycle", "Plugin"]

_Specs = TypeVar("_Specs")

# The hooks that are called last in a run. All plugins must be called even if one of them fails, because they may have
# files to close.
_CALL_ALL_DESPITE_ERRORS = ("on_evaluation_abandoned", "on_exception", "on_teardown")

_WITH_METRICS = ("on_log", "on_epoch_end", "on_evaluation_end")

# In these hooks, plugins undo what they did in an earlier hook. The plugins are called in reverse order, like nested
# `with` blocks. Otherwise, two plugins that exchange weights would each restore the weights of the other.
_LAST_FIRST = ("on_evaluation_end", "on_evaluation_abandoned", "on_state_collected")


class Lifecycle(specs.Hooks[Trainer]):
    """All hooks of one run as attributes: `lifecycle.on_epoch_start(trainer=trainer, epoch=1)`.

    Calls take keyword arguments only. A hook without implementations is a function that returns immediately, so it does
    not slow down a training step. Plugins are called in the order of `PHASES`. Within a phase, they are sorted by
    `before` and `after`, and then by name. In hooks that undo something, the order is reversed. The answer of an
    implementation is checked against the spec of the hook.

    On ranks other than 0, `on_log` is not called, and plugins with `main_process_only = True` are skipped.

    Args:
        plugins: the plugins of the run.
        is_main: whether this process is the main process of the run.
        watch: an observer that is notified when a hook of a plugin begins and ends.

    Raises:
        HookError: two plugins have the same name; a class has a mistake that `hook_findings` finds; or `before` and
            `after` contradict each other or the phases.
    """

    def __init__(self, plugins: Iterable[Plugin] = (), *, is_main: bool = True, watch: HookWatch | None = None) -> None:
        plugins = list(plugins)
        self._is_main = is_main
        self._watch = watch
        for plugin in plugins:
            _check(plugin)
        self.plugins = tuple(calling_order(plugins))
        self._by_name: dict[str, Plugin] = {}
        for plugin in self.plugins:
            if plugin.name in self._by_name:
                raise HookError(
                    f"two hook plugins are called `{plugin.name}`", remedy="give one of them another `name`"
                )
            self._by_name[plugin.name] = plugin
        self._manager = self._manager_of(specs.Hooks, self.plugins)
        self._plugin_hooks: dict[type, Any] = {}
        self._last_first: pluggy.PluginManager | None = None
        if any(len(self._implementations(name)) > 1 for name in _LAST_FIRST):
            self._last_first = self._manager_of(specs.Hooks, self.plugins[::-1])
        self._by_pluggy = _calls(specs.Hooks, self._manager)
        if self._last_first:
            reverse = _calls(specs.Hooks, self._last_first)
            self._by_pluggy |= {name: reverse[name] for name in _LAST_FIRST}
        # The hooks that currently do nothing, by the name of the plugin.
        self._idle: dict[str, frozenset[str]] = {}
        self._make_calls()

    def _make_calls(self) -> None:
        """Creates the attributes with which the hooks are called."""
        calls = self._by_pluggy | self._flat_calls(self._manager)
        if self._last_first:
            reverse = self._flat_calls(self._last_first)
            calls |= {name: reverse[name] for name in _LAST_FIRST if name in reverse}
        calls |= {name: _with_read_only(calls[name]) for name in _WITH_METRICS if self._implementations(name)}
        if not self._is_main:
            calls["on_log"] = _no_answers
        for name, call in calls.items():
            setattr(self, name, call)

    def leave_out_idle(self, trainer: Trainer) -> None:
        """Asks the plugins which of their hooks currently do nothing, and leaves these out until the next request.

        A plugin can have a method `idle_hooks(trainer)`, which returns the names of these hooks. The trainer calls this
        method after `on_run_start` and after each `on_epoch_start`.

        Raises:
            HookError: a method `idle_hooks` fails, or returns a name that is not a hook of the plugin.
        """
        asked = {plugin.name: idle_hooks(plugin, trainer) for plugin in self.plugins if self._calls_hooks_of(plugin)}
        idle = {name: hooks for name, hooks in asked.items() if hooks}
        if idle != self._idle:
            self._idle = idle
            self._make_calls()

    def plugin_hooks(self, hooks: type[_Specs]) -> _Specs:
        """Returns the hooks of a plugin, as callables: `trainer.hooks.plugin_hooks(AcmeHooks).on_mix(snr=3.0)`.

        Calls take keyword arguments only, like the hooks of AudioZEN. A hook without implementations returns None
        immediately. The returned object is created only once for each class.

        Raises:
            HookError: the class has a mistake that `audiozen plugins doctor` finds.
        """
        if hooks not in self._plugin_hooks:
            for message, remedy in spec_faults(hooks):
                raise HookError(f"the hooks `{hooks.__qualname__}` can't be called: {message}", remedy=remedy)
            found = specs_in(hooks)
            # If the spec says that a hook has no answer, the call returns None.
            calls = {
                name: call if first_answer_counts(found[name]) else _without_answers(call)
                for name, call in _calls(hooks, self._manager_of(hooks, self.plugins)).items()
            }
            self._plugin_hooks[hooks] = SimpleNamespace(**calls)
        callables: _Specs = self._plugin_hooks[hooks]
        return callables

    def _manager_of(self, hooks: type, plugins: Sequence[Plugin]) -> pluggy.PluginManager:
        """Returns a pluggy manager for a class of specs, which calls the plugins in order and checks their answers."""
        manager = _PluginManager(specs.PROJECT)
        manager.add_hookspecs(hooks)
        # pluggy calls plugins in reverse order of registration.
        for plugin in reversed(plugins):
            if self._calls_hooks_of(plugin):
                manager.register(plugin.instance, name=plugin.name)
        for name, spec in specs_in(hooks).items():
            for implementation in getattr(manager.hook, name).get_hookimpls():
                checked = checked_wrapper if implementation.wrapper else checked_call
                owner = self._by_name[implementation.plugin_name]
                function = implementation.function
                if self._watch and name not in ANSWERED_FOR_THE_TRAINER:
                    watched = watched_wrapper if implementation.wrapper else watched_call
                    function = watched(function, self._watch, owner.name)
                implementation.function = checked(function, owner, spec)
        return manager

    def _calls_hooks_of(self, plugin: Plugin) -> bool:
        return self._is_main or not getattr(plugin.instance, "main_process_only", False)

    def _flat_calls(self, manager: pluggy.PluginManager) -> dict[str, Callable[..., Any]]:
        """Returns a callable for each hook of AudioZEN that has no wrapper. The callable bypasses pluggy."""
        calls: dict[str, Callable[..., Any]] = {}
        for name, spec in specs_in(specs.Hooks).items():
            implementations = getattr(manager.hook, name).get_hookimpls()
            if not implementations or name in _CALL_ALL_DESPITE_ERRORS or any(each.wrapper for each in implementations):
                continue
            # pluggy lists implementations in reverse order. `__wrapped__` removes the wrapper of `checked_call`.
            steps = [
                Implementation(each.function.__wrapped__, each.argnames, self._by_name[each.plugin_name])
                for each in reversed(implementations)
                if name not in self._idle.get(each.plugin_name, ())
            ]
            calls[name] = flat_call(steps, spec) if steps else _nothing(spec)
        return calls

    def wrap_component(self, section: str, component: Any) -> Any:
        """Calls `on_component_built`. Each plugin gets the component that the previous plugin returned.

        Returns:
            The component to use.

        Raises:
            HookError: a plugin returns an object that can't replace the component.
        """
        for plugin, built in self._each("on_component_built"):
            answer = built(section=section, component=component)
            if answer is None:
                continue
            if wanted := _lacking(section, component, answer):
                raise HookError(
                    f"{plugin} returned a `{type(answer).__name__}` from `on_component_built` for [{section}], which "
                    f"is not {wanted}",
                    remedy="return an object that can replace the component, or None to keep the component",
                )
            component = answer
        return component

    def added_scalars(self, hook: str, taken: Collection[str], **arguments: Any) -> dict[str, float]:
        """Calls `step_scalars`, `epoch_scalars` or `evaluation_scalars`, and returns the scalars of all plugins.

        Args:
            hook: `step_scalars`, `epoch_scalars` or `evaluation_scalars`.
            taken: the names of the scalars that the trainer itself records.
            arguments: the arguments of the hook.

        Raises:
            HookError: two plugins, or a plugin and the trainer, use the same name; or a tensor can't be read.
        """
        owners: dict[str, object] = dict.fromkeys(taken, "the trainer")
        scalars: dict[str, float] = {}
        for plugin, implementation in self._each(hook):
            for name, value in (implementation(**arguments) or {}).items():
                if name in owners:
                    raise HookError(
                        f"{plugin} adds the scalar `{name}` in `{hook}`, but {owners[name]} already uses this name",
                        remedy="rename the scalar, for instance with the name of the hook as a prefix",
                    )
                owners[name] = plugin
                scalar = as_scalar(value)
                try:
                    scalars[name] = float(scalar.detach() if hasattr(scalar, "detach") else scalar)
                except RuntimeError as error:  # a tensor without data, or an earlier error on the GPU
                    what = f"the scalar `{name}` that {plugin} adds in `{hook}` can't be read:"
                    raise HookError.caused_by(error, what) from error
        return scalars

    def collect_extra(self, trainer: Trainer) -> dict[str, dict[str, Any]]:
        """Calls `on_checkpoint_save`. Returns the data that each plugin added, by the name of the plugin."""
        extra: dict[str, dict[str, Any]] = {}
        for plugin, save in self._each("on_checkpoint_save"):
            added: dict[str, Any] = {}
            save(trainer=trainer, extra=added)
            if added:
                extra[plugin.name] = added
        return extra

    def distribute_extra(self, trainer: Trainer, extra: Mapping[str, Mapping[str, Any]]) -> None:
        """Calls `on_checkpoint_load`. Each plugin gets the data that it added in `on_checkpoint_save`."""
        for plugin, load in self._each("on_checkpoint_load"):
            load(trainer=trainer, extra=extra.get(plugin.name, {}))

    def implements(self, hook: str) -> bool:
        """Returns whether any plugin implements a hook, even a plugin that is called only on another rank."""
        return any(hook in implemented_hooks(type(plugin.instance)) for plugin in self.plugins)

    def uses_argument(self, hook: str, argument: str) -> bool:
        """Returns whether any plugin takes this argument of a hook. If not, the trainer does not have to compute it."""
        return any(argument in implementation.argnames for implementation in self._implementations(hook))

    def uses_signals(self, mode: Mode) -> bool:
        """Returns whether a plugin takes the `signals` of `on_evaluation_step_end` in this mode; see `signal_modes`."""
        return any(
            "signals" in found.argnames and mode in getattr(found.plugin, "signal_modes", (mode,))
            for found in self._implementations("on_evaluation_step_end")
        )

    def _each(self, hook: str) -> Iterator[tuple[Plugin, Callable[..., Any]]]:
        """Yields each plugin that implements a hook, in calling order, with a function that takes keyword arguments."""

        def bound(implementation: Any) -> Callable[..., Any]:
            return lambda **arguments: implementation.function(*(arguments[name] for name in implementation.argnames))

        for implementation in reversed(self._implementations(hook)):
            yield self._by_name[implementation.plugin_name], bound(implementation)

    @property
    def hook_names(self) -> tuple[str, ...]:
        """The names of all hooks of AudioZEN, in the order of `specs`, followed by the implemented hooks of plugins."""
        implemented = (implemented_hooks(type(plugin.instance)) for plugin in self.plugins)
        return tuple(dict.fromkeys(chain(HOOK_NAMES, *implemented)))

    def order(self, hook: str) -> list[Plugin]:
        """Returns the plugins that implement a hook, in the order of calls."""
        names = [implementation.plugin_name for implementation in self._implementations(hook)]
        return [self._by_name[name] for name in reversed(names)]

    def wrappers(self, hook: str) -> set[str]:
        """Returns the names of the plugins that wrap the other implementations of a hook."""
        return {found.plugin_name for found in self._implementations(hook) if found.wrapper}

    def _implementations(self, hook: str) -> list[pluggy.HookImpl]:
        # `manager.hook` also has the implementations of hooks that plugins provide, by the name of the hook.
        manager = self._last_first if self._last_first and hook in _LAST_FIRST else self._manager
        caller = getattr(manager.hook, hook, None)
        return caller.get_hookimpls() if caller else []

    def stateful(self) -> Iterator[Plugin]:
        """Yields each plugin whose object has `state_dict` and `load_state_dict`."""
        for plugin in self.plugins:
            if hasattr(plugin.instance, "state_dict") and hasattr(plugin.instance, "load_state_dict"):
                yield plugin


class _PluginManager(pluggy.PluginManager):
    """A plugin manager that examines only the methods that are marked as hooks.

    The base class examines every attribute of a plugin, which takes milliseconds.
    """

    _marked: Collection[str] = ()

    def register(self, plugin: Any, name: str | None = None) -> str | None:
        self._marked = implemented_hooks(type(plugin)).values()
        return super().register(plugin, name)

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> pluggy.HookimplOpts | None:
        return super().parse_hookimpl_opts(plugin, name) if name in self._marked else None


def _calls(hooks: type, manager: pluggy.PluginManager) -> dict[str, Callable[..., Any]]:
    """Returns a callable for each hook of a class of specs."""
    calls: dict[str, Callable[..., Any]] = {}
    for name, spec in specs_in(hooks).items():
        caller = getattr(manager.hook, name)
        if not caller.get_hookimpls():
            calls[name] = _nothing(spec)
        else:
            calls[name] = call_all(caller) if name in _CALL_ALL_DESPITE_ERRORS else caller
    return calls


def _lacking(section: str, component: Any, answer: Any) -> str:
    """Describes what an answer lacks to replace a component, such as "callable"; "" if it can replace the component."""
    kind = kind_of(section)
    base = loaded_class(kind.base) if kind else None
    if kind and base and isinstance(component, base):
        return "" if isinstance(answer, base) else kind.with_article
    if callable(component) and not callable(answer):
        return "callable"
    return "iterable" if hasattr(component, "__iter__") and not hasattr(answer, "__iter__") else ""


def _with_read_only(call: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps a call so that plugins get read-only scalars, because all plugins share them."""

    def called(*, metrics: Mapping[str, float], **arguments: Any) -> Any:
        return call(metrics=ReadOnlyScalars(metrics), **arguments)

    return called


def _without_answers(call: Callable[..., Any]) -> Callable[..., None]:
    def called(**arguments: Any) -> None:
        call(**arguments)

    return called


def _nothing(spec: Spec) -> Callable[..., Any]:
    """Returns a function to call in place of a hook without implementations."""
    return _no_answer if first_answer_counts(spec) else _no_answers


def _no_answer(**_: Any) -> None:
    return None


def _no_answers(**_: Any) -> list[Any]:
    return []


def _check(plugin: Plugin) -> None:
    """Raises an error for a mistake in a plugin that pluggy would silently ignore."""
    if isinstance(plugin.instance, type):
        raise HookError(f"{plugin} is a class, not an object", remedy="create an object of the class")
    for finding in () if plugin.checked else hook_findings(type(plugin.instance)):
        if finding.severity == "warning":  # `check` and `run` have already shown the warning
            continue
        raise HookError(f"{plugin}: {finding.message}", notes=finding.notes)
    for attribute in ("phase", "before", "after"):
        # The attributes that determine the order may be properties, so check the values of the object, not only of the
        # class.
        try:
            value = getattr(plugin.instance, attribute, ())
        except Exception as error:
            raise HookError.caused_by(error, f"{plugin}: its `{attribute}` can't be read:") from error
        if attribute != "phase" and (fault := order_fault(attribute, value)):
            raise HookError(f"{plugin}: {fault[0]}", remedy=fault[1])
