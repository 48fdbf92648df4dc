"""Every component of a configuration against what its `path` names: imported, bound, not built."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from audiozen_core.binding.arguments import check_arguments, expected_kind
from audiozen_core.binding.signature import signature_of
from audiozen_core.binding.values import is_component
from audiozen_core.config.composition import Composition
from audiozen_core.config.load import Inspection, LoadedConfig, in_order, inspect_config
from audiozen_core.config.sections import Component, HookComponent
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.errors import AudioZenError, ConfigError
from audiozen_core.kinds import KINDS, kind_of
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.index import PluginIndex, installed_index
from audiozen_core.registry.paths import Resolved, resolve
from audiozen_core.registry.scope import ImportScope


def check_components(loaded: LoadedConfig | Inspection, *, index: PluginIndex | None = None) -> list[Diagnostic]:
    """All that is wrong with the components of a configuration, without building any of them.

    Every `path` is imported (those of tables within `args` too) and its `args` are bound to the signature. Modules
    beside the TOML are found: in the `ImportScope` that is open, else in one of the file's own.

    Args:
        loaded: the configuration, or what could be read of one that has errors.
        index: the installed components (default: those of this process).

    Returns:
        Errors and warnings, sorted by place.
    """
    checker = _Checker(loaded.composition, index)
    with nullcontext() if ImportScope.current() else import_scope(loaded.composition):
        for component in loaded.components:
            checker.check(component)
    return list(in_order(loaded.composition, checker.findings))


def import_scope(composition: Composition) -> ImportScope:
    """Where an experiment's own modules are looked up: `meta.import_from`, else the file's folder and its parent."""
    meta = composition.values.get("meta")
    folders = meta.get("import_from") if isinstance(meta, dict) else None
    # What can't be a path is told of by the reader of the section.
    if isinstance(folders, list) and all(isinstance(folder, str) and "\0" not in folder for folder in folders):
        return ImportScope(folders)
    return ImportScope.of_file(composition.main.file)


def check_config(
    path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    modes: Sequence[str] = ("train",),
    *,
    environment: Mapping[str, str] | None = None,
) -> LoadedConfig:
    """Reads a file like `load_config`, and checks its components too: every mistake in one go.

    Args:
        path: the file.
        overrides: each `key=value`, or `+key=value` to add a key.
        modes: what is to be run.
        environment: the variables for `${env:…}` (default: those of the process).

    Raises:
        ConfigError: with every error and warning, sorted by place.
    """
    return finish(inspect_config(path, overrides, modes, environment=environment))


def finish(inspection: Inspection) -> LoadedConfig:
    """Checks the components of a config that has been read.

    Args:
        inspection: what was read.

    Raises:
        ConfigError: with every error, those found while reading included, sorted by place.
    """
    found = check_components(inspection)
    findings = in_order(inspection.composition, [*inspection.findings, *found])
    if inspection.config is None or any(finding.severity == "error" for finding in findings):
        raise ConfigError(findings)
    return LoadedConfig(inspection.config, findings, inspection.composition, inspection.components)


@dataclass(frozen=True, slots=True)
class _Role:
    """What a component is for.

    Attributes:
        section: where its name is looked up, None for anywhere.
        injected: the arguments that AudioZEN passes.
        called: `build` if the target is called with the arguments; `partial` if a function is given them for later
            calls, which pass the rest.
    """

    section: str | None
    injected: tuple[str, ...] = ()
    called: Literal["build", "partial"] = "build"


def _role(component: Component) -> _Role:
    # A collate function or a sampler is named by its key in `dataloader`, everything else by its section.
    part = KINDS.get(str(component.key[-1]))
    kind = part if part and not part.section else kind_of(component.section)
    if kind is None:
        return _Role(component.section)
    return _Role(kind.name if kind.group else None, kind.injected, "partial" if kind.called_later else "build")


class _Checker:
    def __init__(self, composition: Composition, index: PluginIndex | None) -> None:
        self.composition = composition
        self.index = index
        self.findings: list[Diagnostic] = []

    def check(self, component: Component) -> None:
        role = _role(component)
        if isinstance(component, HookComponent) and not component.enabled:
            self.switched_off(component)
            return
        found = self.bind(component.path, component.args, component.key, role)
        if found and role.section == "model":
            self.compare_with_acoustics(component, found)

    def bind(self, path: str, args: Any, key: KeyPath, role: _Role) -> Resolved | None:
        """Imports what a component names and binds its arguments, with all components in them."""
        place: KeyPath = (*key, "path")
        # A string that stands alone, as for `collate_fn`, is the path itself.
        place = place if place in self.composition.origins else key
        for inner, table in _components_in(args, (*key, "args")):
            self.bind(table["path"], table.get("args", {}), inner, _Role(None, role.injected))
        if place in self.composition.unresolved:
            return None
        found = self.resolve(path, place, role.section)
        if found is None:
            return None
        problem = expected_kind(role.section or "component", found.target)
        if problem:
            self.place(problem, key)
        else:
            self.bind_arguments(found, path, args, key, role)
        return found

    def bind_arguments(self, found: Resolved, path: str, args: Any, key: KeyPath, role: _Role) -> None:
        given = self.composition.origins.get((*key, "args"))
        if not isinstance(args, dict):
            message = f"the `args` of `{path}` must be a table"
            self.add(config_codes.WRONG_TYPE, message, (*key, "args"))
            return
        if given and (*key, "args") in self.composition.unresolved:
            return
        later = role.called == "partial" and not isinstance(found.target, type)
        for finding in check_arguments(found.target, args, injected=role.injected, name=path):
            if not (later and finding.code in (config_codes.MISSING_ARGUMENT, config_codes.POSITIONAL_ONLY)):
                self.place(finding, key)

    def resolve(self, path: str, place: KeyPath, section: str | None) -> Resolved | None:
        try:
            found = resolve(path, section=section, index=self.index)
        except AudioZenError as error:
            for finding in error.diagnostics:
                self.place(finding, place)
            return None
        if found.printed.strip():
            first = found.printed.strip().splitlines()[0]
            message = f"importing `{path}` writes to the standard output"
            notes = (f"output: {first}",)
            self.add(config_codes.IMPORT_PRINTS, message, place, severity="warning", notes=notes)
        return found

    def switched_off(self, hook: HookComponent) -> None:
        """A hook that is switched off is not imported, but its name must be right."""
        if "." in hook.path and ":" not in hook.path:
            return
        try:
            (installed_index() if self.index is None else self.index).find(hook.path, "hooks")
        except PathError as error:
            for finding in error.diagnostics:
                self.place(finding, (*hook.key, "path"))

    def compare_with_acoustics(self, model: Component, found: Resolved) -> None:
        """A model's own `n_fft` and the like against those of `[acoustics]`, where both say something."""
        given = self.composition.values.get("acoustics")
        signature = signature_of(found.target)
        if not isinstance(given, dict) or signature is None:
            return
        for name in ("sr", "n_fft", "hop_length", "win_length"):
            parameter = signature.get(name)
            wanted = given.get(name)
            if parameter is None or type(wanted) is not int:
                continue
            value = model.args.get(name, parameter.default)
            if type(value) is not int or value == wanted:
                continue
            own = name in model.args
            self.add(
                config_codes.NUMBERS_DISAGREE,
                f"`{name}` of `{model.path}` is {value}{'' if own else ' by default'}, but {wanted} in `[acoustics]`",
                (*model.key, "args", name) if own else model.key,
                severity="error" if own else "warning",
                label=f'write `"${{acoustics.{name}}}"`'
                if own
                else f'set `{name} = "${{acoustics.{name}}}"` in its args',
                suggestion=f'"${{acoustics.{name}}}"' if own else None,
                notes=(f"acoustics: {self.composition.origin(('acoustics', name))}",),
            )

    # ------------------------------------------------------------------------------------------ reporting

    def add(self, code: str, message: str, key_path: KeyPath, **more: Any) -> None:
        self.place(Diagnostic(code, message, **more), key_path)

    def place(self, finding: Diagnostic, key_path: KeyPath) -> None:
        """Adds a finding that says only where it is below `key_path`, such as below the table of a component."""
        place = (*key_path, *finding.place)
        # What depends on a reference that leads nowhere is reported there.
        if not any(place[:length] in self.composition.unresolved for length in range(1, len(place) + 1)):
            self.findings.append(self.composition.placed(finding, key_path))


def _components_in(value: Any, place: KeyPath) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    """The outermost tables with a `path` of their own within a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in items:
        if is_component(entry):
            yield (*place, key), entry
        else:
            yield from _components_in(entry, (*place, key))
