"""The result of checking a configuration: every component with the object that its `path` names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from audiozen_core.binding.signature import Signature
from audiozen_core.config.composition import Composition, Origin
from audiozen_core.config.plugin_sections import PluginSections
from audiozen_core.config.sections import Component, ExperimentConfig, HookComponent
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.registry.paths import Resolved
from audiozen_core.registry.scope import ImportScope


@dataclass(frozen=True, slots=True)
class CheckedComponent:
    """A component with the object that its `path` names.

    Attributes:
        component: the table of the TOML file.
        resolved: the object that its `path` names.
        origin: the position of its `path` in the TOML file.
        called_later: whether the object is a function that the run calls later, such as a loss, and not a factory.
        nested: the outermost components in its `args`, by key path.
        field: the dataclass field that holds an inline component (see `InlineComponent`); "" for other components.
    """

    component: Component
    resolved: Resolved
    origin: Origin
    called_later: bool = False
    nested: Mapping[KeyPath, CheckedComponent] = dataclasses.field(default_factory=dict)
    field: str = ""

    @property
    def target(self) -> Any:
        """The class or function that `path` names."""
        return self.resolved.target

    @property
    def signature(self) -> Signature | None:
        """The signature of the object; None if it can't be read."""
        return self.resolved.signature

    @property
    def distribution(self) -> str:
        """The installed distribution that the component belongs to; "" for a dotted import."""
        return self.resolved.entry.distribution if self.resolved.entry else ""

    def walk(self) -> Iterator[CheckedComponent]:
        """Yields this component and all components nested in it, outer components first."""
        yield self
        for inner in self.nested.values():
            yield from inner.walk()


@dataclass(frozen=True, slots=True)
class CheckedConfig:
    """A configuration without errors, whose components are resolved and ready to be built.

    Attributes:
        config: the configuration.
        warnings: the warnings, for example about renamed keys and dropped arguments, sorted by position.
        composition: the values with their origins.
        components: the checked components by key path, without disabled hooks.
        scope: the import scope in which the components were imported.
        default_hooks: the default hooks that the run enables.
        sections: the sections of plugins, by name.
    """

    config: ExperimentConfig
    warnings: tuple[Diagnostic, ...]
    composition: Composition
    components: Mapping[KeyPath, CheckedComponent]
    scope: ImportScope
    default_hooks: tuple[Resolved, ...]
    sections: PluginSections

    def component(self, component: Component) -> CheckedComponent:
        """Returns the `CheckedComponent` of a component of `config`.

        Raises:
            KeyError: the component is a disabled hook, or belongs to another configuration.
        """
        return self.components[component.key]

    def affecting_hooks(self) -> list[HookComponent]:
        """Returns the hooks of the TOML file that may affect a training or the outputs of networks.

        Hooks that are switched off, and hooks whose class says `affects_training = False`, are left out.
        """
        enabled = (hook for hook in self.config.hooks if hook.enabled)
        return [hook for hook in enabled if getattr(self.component(hook).target, "affects_training", True)]
