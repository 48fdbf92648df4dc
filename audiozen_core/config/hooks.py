"""Finds the hooks of an experiment, including the default hooks, and checks their classes and their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from audiozen_core.config.checked import CheckedComponent
from audiozen_core.config.sections import HookComponent
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.hooks.checks import has_fixed_order, hook_findings
from audiozen_core.hooks.order import OrderError, calling_order
from audiozen_core.hooks.plugin import Plugin
from audiozen_core.registry.entry import FIRST_PARTY
from audiozen_core.registry.index import PluginIndex
from audiozen_core.registry.paths import Resolved, resolve

_FIRST_PARTY_PREFIX = f"{FIRST_PARTY}:"


def hook_path(hook: HookComponent) -> str:
    """Returns the path of a hook. The path of AudioZEN's own hooks does not contain the distribution."""
    return hook.path.removeprefix(_FIRST_PARTY_PREFIX)


def default_hooks(index: PluginIndex, named: Collection[str] = ()) -> Iterator[Resolved]:
    """Yields the default hooks: the hooks of AudioZEN whose class sets `default = True`.

    A hook of another distribution is used only if the TOML file names it, so that installing a package never changes an
    experiment. `named` holds the paths of the hooks that the TOML file names. These hooks are skipped, because the file
    replaces them or switches them off.
    """
    for entry in index.entries("hooks"):
        if entry.distribution == FIRST_PARTY and entry.name not in named:
            # The spelling `distribution:name` is needed, because another plugin may have a hook with the same name.
            hook = resolve(entry.spelling, section="hooks", index=index)
            if getattr(hook.target, "default", False):
                yield hook


def named_hooks(hooks: Iterable[HookComponent]) -> Iterator[tuple[str, HookComponent]]:
    """Yields the hooks of the TOML file that are switched on, each with its name, which is unique in a run."""
    uses = Counter[str]()
    for hook in hooks:
        if hook.enabled:
            path = hook_path(hook)
            uses[path] += 1
            yield (f"{path}_{uses[path]}" if uses[path] > 1 else path), hook


def named_plugins(
    hooks: Iterable[HookComponent], components: Mapping[KeyPath, CheckedComponent]
) -> dict[Plugin, KeyPath | None]:
    """Returns the hook plugins of the TOML file, each with the key path of its `path`. They hold classes, not objects.

    If a function returns the hook, the hook is left out, because its class is unknown. It is checked when it is built.
    """
    plugins: dict[Plugin, KeyPath | None] = {}
    for name, hook in named_hooks(hooks):
        checked = components.get(hook.key)
        if checked and isinstance(checked.target, type):
            span = checked.origin.key_span
            origin = f"{span.file.name}:{span.line}"
            plugin = Plugin(name, checked.target, origin, checked.distribution, hook_path(hook))
            plugins[plugin] = (*hook.key, "path")
    return plugins


def default_plugins(found: Iterable[Resolved]) -> dict[Plugin, KeyPath | None]:
    """Returns the default hooks, each with None as its key path, because the TOML file does not name them."""
    named = [(hook.path.removeprefix(_FIRST_PARTY_PREFIX), hook.target) for hook in found]
    return {Plugin(name, target, "default", FIRST_PARTY): None for name, target in named}


def check_hook_plugins(plugins: Mapping[Plugin, KeyPath | None]) -> Iterator[tuple[Diagnostic, KeyPath | None]]:
    """Yields the errors in the classes and the order of hook plugins, each with the key path of a plugin."""
    valid = []
    present = [name for plugin in plugins for name in (plugin.name, plugin.path)]
    of_class = {cls: hook_findings(cls, present) for cls in dict.fromkeys(plugin.instance for plugin in plugins)}
    for plugin, key in plugins.items():
        findings = of_class[plugin.instance]
        yield from ((replace(finding, message=f"{plugin}: {finding.message}"), key) for finding in findings)
        broken = any(finding.severity == "error" for finding in findings)
        if not broken and has_fixed_order(plugin.instance):
            valid.append(plugin)
    try:
        calling_order(valid)
    except OrderError as error:
        key = next((key for plugin in error.plugins if (key := plugins[plugin])), None)
        yield from ((finding, key) for finding in error.diagnostics)
