"""Checks every component of a configuration: resolves its `path` and binds its arguments, without building anything."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from audiozen_core.binding.annotations import unwrap, wants_callable
from audiozen_core.binding.arguments import call_arguments, check_arguments, check_kind
from audiozen_core.binding.component_names import is_component_name, kind_of_component
from audiozen_core.binding.inline_components import inline_field, inline_kind
from audiozen_core.binding.signature import Signature, signature_of
from audiozen_core.binding.values import annotation_below, is_component
from audiozen_core.config.check_acoustics import (
    JoinedAcoustics,
    argument_findings,
    class_of,
    join_acoustics,
    rate_findings,
)
from audiozen_core.config.check_data import check_data
from audiozen_core.config.check_groups import group_findings
from audiozen_core.config.check_training import check_training
from audiozen_core.config.check_unused import check_unused
from audiozen_core.config.checked import CheckedComponent, CheckedConfig
from audiozen_core.config.composition import Composition
from audiozen_core.config.hooks import check_hook_plugins, default_hooks, default_plugins, hook_path, named_plugins
from audiozen_core.config.load import LoadedConfig, sort_findings
from audiozen_core.config.namesakes import namesake_warnings
from audiozen_core.config.plugin_sections import PluginSections, check_sections
from audiozen_core.config.read_sections import Sections
from audiozen_core.config.renamed_keys import OLD_TRAINER_ARGUMENTS, is_old_value
from audiozen_core.config.requirements import requirement_findings
from audiozen_core.config.sections import Component, HookComponent
from audiozen_core.config.toml.emit import emit
from audiozen_core.config.used_plugins import recorded_plugin
from audiozen_core.diagnostics import codes, config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import AudioZenError, BuildError, ConfigError, MissingExtraError
from audiozen_core.kinds import KINDS, kind_of
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.hints import unknown_name_hints
from audiozen_core.registry.index import PluginIndex, installed_index
from audiozen_core.registry.paths import Resolved, resolve
from audiozen_core.registry.scope import ImportScope

_PASSED_LATER = (config_codes.MISSING_ARGUMENT, config_codes.POSITIONAL_ONLY)


def check_config(loaded: LoadedConfig, *, index: PluginIndex | None = None) -> CheckedConfig:
    """Resolves every component of a configuration and binds its arguments, without building any of them.

    Every `path` is imported, even in nested tables, and each component's `args` are bound to the object's signature.

    Args:
        loaded: the loaded configuration.
        index: the installed components (default: the components installed in this process).

    Raises:
        ConfigError: with every error and warning, including the findings of `loaded`, sorted by position.
    """
    composition = loaded.composition
    checker = _Checker(composition, index)
    components: dict[KeyPath, CheckedComponent] = {}
    scope, sections = _import_scope(composition), PluginSections()
    checker.findings += requirement_findings(composition, checker.index)
    with scope:
        for component in loaded.sections.components():
            if checked := checker.check(component):
                components[component.key] = checked
        joined = checker.join_acoustics(loaded.sections, components)
        loaded = replace(loaded, sections=replace(loaded.sections, acoustics=joined.acoustics))
        checker.run_settings_checks(loaded.sections, components, loaded.modes)
        checker.report(check_sections(loaded.sections.of_plugins, composition, checker.index, sections))
        hooks = loaded.sections.hooks
        defaults: tuple[Resolved, ...] = ()
        # Finding the default hooks imports torch, which is slow. If the file has errors, they are reported without this
        # delay.
        if not any(finding.severity == "error" for finding in [*loaded.findings, *checker.findings]):
            defaults = tuple(default_hooks(checker.index, [hook_path(hook) for hook in hooks]))
        checker.report(check_hook_plugins(named_plugins(hooks, components) | default_plugins(defaults)))
    tables = loaded.sections
    validates = bool(tables.datasets["validate"])
    checker.report(check_training(components, tables.components_by_kind, modes=loaded.modes, validates=validates))
    checker.report(group_findings(components, tables.components_by_kind["optimizer"]))
    checker.report(check_data(components, tables.datasets))
    checker.report(check_unused(components, tables, modes=loaded.modes))
    checker.findings += namesake_warnings(composition, scope.used, checker.index)
    loaded = replace(loaded, findings=sort_findings(composition, [*loaded.findings, *checker.findings]))
    config = loaded.config
    if joined.declared:
        # A resumed run and an evaluation compare this text with the config in the checkpoint.
        config = replace(config, text=emit(joined.recorded_in(composition.values)))
    return CheckedConfig(config, loaded.findings, composition, components, scope, defaults, sections)


def check_component(composition: Composition, component: Component) -> CheckedComponent:
    """Resolves one component, even if it is a disabled hook, and ignores mistakes in its arguments.

    Raises:
        ConfigError: its `path` can't be resolved, or names an object of the wrong kind for its section.
    """
    checker = _Checker(composition)
    with _import_scope(composition):
        checked = checker.check_as(component, _role(component))
    if checked is None:
        raise ConfigError(checker.findings)
    return checked


def _import_scope(composition: Composition) -> ImportScope:
    """Returns the folders of the experiment's own modules: `meta.import_from`, or the file's folder and its parent."""
    meta = composition.values.get("meta")
    folders = meta.get("import_from") if isinstance(meta, dict) else None
    # Invalid entries are reported when `[meta]` is read, so they are ignored here.
    if isinstance(folders, list) and all(isinstance(folder, str) and "\0" not in folder for folder in folders):
        scope = ImportScope(folders)
    else:
        scope = ImportScope.of_file(composition.main.file)
    scope.recorded = functools.partial(recorded_plugin, composition)
    return scope


@dataclass(frozen=True, slots=True)
class _Role:
    """How a component is used.

    Attributes:
        section: the section or the kind in which the component's name is looked up. With None, the name is looked up
            among the components of all kinds.
        injected: the arguments that AudioZEN passes itself.
        called_later: whether the component is a function that the run calls later, such as a loss. AudioZEN calls other
            functions once, to build an object.
        by_name: whether the outer component gets only a name, and builds the nested component itself.
        hint: a note that is added to errors about missing arguments. It says which annotation makes AudioZEN pass the
            function itself.
    """

    section: str | None
    injected: tuple[str, ...] = ()
    called_later: bool = False
    by_name: bool = False
    hint: str = ""


def _role(component: Component) -> _Role:
    # The kind of a collate function or a sampler depends on its key in `dataloader`. The kind of other components
    # depends on their section.
    kind_of_key = KINDS.get(str(component.key[-1]))
    kind = kind_of_key if kind_of_key and not kind_of_key.section else kind_of(component.section)
    if kind is None:
        return _Role(component.section)
    return _Role(kind.name if kind.group else None, kind.injected, kind.called_later)


class _Checker:
    def __init__(self, composition: Composition, index: PluginIndex | None = None) -> None:
        self.composition = composition
        self.index = installed_index() if index is None else index
        self.findings: list[Diagnostic] = []
        # The objects whose imports have been reported, by `id`.
        self.reported: set[int] = set()
        # The components whose arguments fit the signature of the component.
        self.sound: list[CheckedComponent] = []

    def check(self, component: Component) -> CheckedComponent | None:
        """Checks a component and its nested components. Returns None if the component is not valid for its section."""
        if isinstance(component, HookComponent) and not component.enabled:
            self.check_disabled_hook(component)
            return None
        return self.check_as(component, _role(component))

    def join_acoustics(self, sections: Sections, components: Mapping[KeyPath, CheckedComponent]) -> JoinedAcoustics:
        """Joins `[acoustics]` with the declarations of models, and reports models and data sets that contradict it."""
        models = [
            components[part.key] for part in sections.components_by_kind["model"].values() if part.key in components
        ]
        joined = join_acoustics(self.composition, sections.acoustics, models)
        self.report(joined.findings)
        for model in models:
            self.report(argument_findings(model, self.composition))
        for dataset in (dataset for of_mode in sections.datasets.values() for dataset in of_mode):
            if checked := components.get(dataset.key):
                self.report(rate_findings(checked, joined.acoustics))
        return joined

    def check_as(self, component: Component, role: _Role) -> CheckedComponent | None:
        """Checks that a component can be used as `role` says, and checks its nested components."""
        key = component.key
        # A component can be a string instead of a table, as in `collate_fn = "mine.collate"`. The string is the path.
        place = (*key, "path") if (*key, "path") in self.composition.origins else key
        resolved = None if place in self.composition.unresolved else self.resolve(component.path, place, role)
        nested = self.check_nested(component, role, resolved.signature if resolved else None)
        if resolved is None:
            return None
        if problem := check_kind(role.section or "component", resolved.target):
            self.place(replace(problem, notes=(*problem.notes, *resolved.notes)), key)
            return None
        called_later = role.called_later and not isinstance(resolved.target, type)
        checked = CheckedComponent(component, resolved, self.composition.origin(place), called_later, nested)
        self.check_arguments(checked, role)
        return checked

    def check_nested(
        self, component: Component, role: _Role, signature: Signature | None
    ) -> dict[KeyPath, CheckedComponent]:
        """Checks the components nested in the arguments of `component`.

        Returns the nested components that AudioZEN must build before it builds `component`.
        """
        nested = {}
        for inner, annotation, field in _components_in_arguments(component, signature):
            kind = inline_kind(annotation) if field else kind_of_component(annotation)
            if isinstance(self.composition.get(inner.key), str):
                self.check_as(inner, _Role(kind, by_name=True))
                continue
            # A nested component gets the same injected arguments as the outer component. If an argument takes a
            # callable, such as `lr_lambda` of `LambdaLR`, a table that names a function and has no `args` stands for
            # the function itself, not for its result.
            is_function = "args" not in self.composition.get(inner.key)
            called_later = (wants_callable(annotation) and is_function) or bool(kind and KINDS[kind].called_later)
            hint = ""
            if is_function and unwrap(annotation) is Any:
                name = inner.key[len(component.key) + 1]
                hint = (
                    f"help: to pass the function itself, annotate `{name}` in the signature of {component.path}: "
                    f"`{name}: Callable`; without this annotation, its result is passed"
                )
            if checked := self.check_as(inner, _Role(kind, role.injected, called_later, hint=hint)):
                nested[inner.key] = replace(checked, field=field)
        return nested

    def check_arguments(self, checked: CheckedComponent, role: _Role) -> None:
        component = checked.component
        place: KeyPath = (*component.key, "args")
        args: Any = component.args  # the `args` of a nested component have not been type-checked yet
        if not isinstance(args, dict):
            self.add(config_codes.WRONG_TYPE, f"the `args` of `{component.path}` must be a table", place)
            return
        if place in self.composition.unresolved or self.is_unusable(place):
            return
        if role.section == "trainer":
            self.drop_old_arguments(checked.signature, args, place)
        problems = check_arguments(checked.signature, args, injected=role.injected, name=component.path)
        for problem in problems:
            # The code that calls the function during the run passes the missing arguments.
            if checked.called_later and problem.code in _PASSED_LATER:
                continue
            hinted = role.hint and problem.code in _PASSED_LATER and not isinstance(checked.target, type)
            notes = (*problem.notes, role.hint) if hinted else problem.notes
            self.place(replace(problem, notes=notes), component.key)
        if not problems:
            self.sound.append(checked)

    def is_unusable(self, place: KeyPath) -> bool:
        """Returns whether these `args` are not a table in the file. This error has already been reported."""
        return place in self.composition.origins and not isinstance(self.composition.get(place), dict)

    def run_settings_checks(
        self, sections: Sections, components: Mapping[KeyPath, CheckedComponent], modes: Sequence[str]
    ) -> None:
        """Lets the classes of components check their own arguments against the rest of the experiment.

        A class may have a class method `check_settings(cls, args, *, acoustics, dataset_names, models, loss_functions,
        optimizers, modes)`, which yields a `Diagnostic` for each finding. The method must not build anything. It gets
        only the keyword arguments that its signature names, and is called only if `args` fit the signature of the
        class.

        - `args`: the arguments in the TOML file, a mapping without the defaults of the signature.
        - `acoustics`: the `Acoustics` of the experiment, including the settings that the models declare.
        - `dataset_names`: the names of the data sets of each mode; the name of an unnamed data set is its index.
        - `models`, `loss_functions`, `optimizers`: the class of each model, loss function or optimiser, by suffix; None
          if the section has an error.
        - `modes`: the modes to run.

        The `place` of a finding is relative to the component's table: `("args", "score")`. If the method raises an
        exception, only a warning is reported, because the experiment may still be correct.
        """
        context: dict[str, Any] = {
            f"{kind}s": {
                suffix: class_of(components[part.key].target) if part.key in components else None
                for suffix, part in sections.components_by_kind[kind].items()
            }
            for kind in ("model", "loss_function", "optimizer")
        }
        context |= {"acoustics": sections.acoustics, "dataset_names": sections.dataset_names, "modes": modes}
        for checked in self.sound:
            self.run_settings_check(checked, context)

    def run_settings_check(self, checked: CheckedComponent, context: Mapping[str, Any]) -> None:
        component = checked.component
        try:
            # If the class has a metaclass, even reading an attribute can run third-party code.
            check_settings = getattr(checked.target, "check_settings", None)
            if check_settings is None:
                return
            _, keywords = call_arguments(signature_of(check_settings), {}, context)
            for finding in check_settings(component.args, **keywords):
                self.place(finding, component.key)
        # A `sys.exit(0)` in the method would end `audiozen check` as if the file had no errors.
        except (Exception, SystemExit) as error:
            failed = BuildError.caused_by(error, f"`check_settings` of `{component.path}` failed:")
            notes = (*failed.notes, *checked.resolved.notes)
            self.add(config_codes.CHECK_FAILED, failed.message, component.key, severity="warning", notes=notes)

    def drop_old_arguments(self, signature: Signature | None, args: dict[str, Any], place: KeyPath) -> None:
        """Drops arguments that only trainers of older versions had, if their values no longer have an effect."""
        for name, (advice, values) in OLD_TRAINER_ARGUMENTS.items():
            unknown = signature and not signature.open and signature.get(name) is None
            if unknown and name in args and is_old_value(args[name], values):
                self.findings.append(self.composition.drop_old_setting((*place, name), advice))

    def resolve(self, path: str, place: KeyPath, role: _Role) -> Resolved | None:
        try:
            resolved = resolve(path, section=role.section, index=self.index)
        except AudioZenError as error:
            # The outer component may work without a nested component whose package is missing. For example, a trainer
            # leaves out a metric whose package is not installed.
            optional = role.by_name and isinstance(error, MissingExtraError)
            for finding in error.diagnostics:
                self.place(replace(finding, severity="warning") if optional else finding, place)
            return None
        if id(resolved) in self.reported:
            return resolved
        self.reported.add(id(resolved))  # the scope keeps the object alive, so Python can't reuse its `id`
        if printed := resolved.printed.strip():
            message = f"importing `{path}` writes to the standard output"
            notes = (f"output: {printed.splitlines()[0]}", *resolved.notes)
            self.add(config_codes.IMPORT_PRINTS, message, place, severity="warning", notes=notes)
        if resolved.changed:
            message = f"importing `{path}` changes {listed(resolved.changed)}"
            undone = ("note: the change has been undone", "help: make the change in a constructor or in `on_setup`")
            self.add(codes.IMPORT_CHANGES, message, place, severity="warning", notes=(*resolved.notes, *undone))
        return resolved

    def check_disabled_hook(self, hook: HookComponent) -> None:
        """Checks that a disabled hook exists, without importing it."""
        if "." in hook.path and ":" not in hook.path:
            return
        try:
            self.index.find(hook.path, "hooks")
        except PathError as error:
            for finding in unknown_name_hints(error, hook.path, "hooks").diagnostics:
                self.place(finding, (*hook.key, "path"))

    # ------------------------------------------------------------------------------------------ reporting

    def report(self, findings: Iterable[tuple[Diagnostic, KeyPath | None]]) -> None:
        """Adds findings, each with the key path that it is about, or None if it is not about a key of the file."""
        for finding, key in findings:
            if key is None:
                self.findings.append(finding)
            else:
                self.place(finding, key)

    def add(self, code: str, message: str, key_path: KeyPath, **more: Any) -> None:
        self.place(Diagnostic(code, message, **more), key_path)

    def place(self, finding: Diagnostic, key_path: KeyPath) -> None:
        """Adds a finding whose `place` is relative to `key_path`, for example to a component's table."""
        place = (*key_path, *finding.place)
        # A reference that can't be resolved is reported at its own position, so skip findings about values that contain
        # it.
        if not any(place[:length] in self.composition.unresolved for length in range(1, len(place) + 1)):
            self.findings.append(self.composition.placed(finding, key_path))


def _components_in_arguments(component: Component, signature: Signature | None) -> Iterator[tuple[Component, Any, str]]:
    """Yields the outermost components in the arguments, each with its annotation and the name of its field.

    For a component within a dataclass value, this is the name of the dataclass field; otherwise it is "".
    """
    args: Any = component.args  # the `args` of a nested component have not been type-checked yet
    for name, value in args.items() if isinstance(args, dict) else ():
        parameter = signature.get(name) if signature else None
        yield from _components_in(value, (*component.key, "args", name), parameter.annotation if parameter else Any)


def _components_in(value: Any, place: KeyPath, annotation: Any) -> Iterator[tuple[Component, Any, str]]:
    """Yields the tables with a `path`, and the strings that are paths according to the annotation, as components."""
    field = inline_field(annotation) if isinstance(value, dict) and isinstance(value.get("path"), str) else None
    if field is not None:
        yield Component(path=value["path"], args=value.get("args", {}), key=place), field.annotation, field.name
    elif is_component(value):
        yield Component(path=value["path"], args=value.get("args", {}), key=place), annotation, ""
    elif is_component_name(value, annotation):
        yield Component(path=value, key=place), annotation, ""
    else:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, entry in items:
            yield from _components_in(entry, (*place, key), annotation_below(annotation, key))
