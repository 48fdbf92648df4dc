"""Joins `[acoustics]` with the settings that models declare, and checks models and data sets against the result."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from audiozen_core.audio.acoustics import Acoustics, declared_acoustics, window_error
from audiozen_core.binding.arguments import check_arguments
from audiozen_core.binding.signature import return_type, signature_of
from audiozen_core.config.checked import CheckedComponent
from audiozen_core.config.composition import Composition
from audiozen_core.config.schema import keys_of
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Finding
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.diagnostics.toml_text import toml_text


@dataclass(frozen=True, slots=True)
class JoinedAcoustics:
    """The settings of `[acoustics]`. A value comes from the file, or else from a model's declaration, or else from the
    default.

    Attributes:
        acoustics: the settings.
        declared: the settings that a model declares and the file does not set.
        findings: errors about settings that contradict each other, in the file, in a model, or between them.
    """

    acoustics: Acoustics
    declared: Mapping[str, Any]
    findings: tuple[Finding, ...]

    def recorded_in(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Returns the values of a file plus the declared settings, so that a resume notices changed declarations."""
        return {**values, "acoustics": {**values.get("acoustics", {}), **self.declared}}


def class_of(target: Any) -> Any:
    """Returns the class of the object that a component builds: a class itself, or the annotated return type of a
    function.

    A function without a return annotation is returned unchanged.
    """
    return target if isinstance(target, type) else return_type(target) or target


def join_acoustics(
    composition: Composition, read: Acoustics | None, models: Sequence[CheckedComponent]
) -> JoinedAcoustics:
    """Joins the section with the declarations of the models.

    Args:
        composition: the values of the file.
        read: the valid settings of the section; None if the file has no `[acoustics]`.
        models: the checked models of the experiment.
    """
    joining = _Joining(composition, read)
    for model in models:
        joining.add(model)
    declared = {name: value for name, (value, _) in joining.declared.items() if name not in joining.section}
    acoustics = replace(Acoustics(), **{**declared, **joining.given})
    return JoinedAcoustics(acoustics, declared, (*joining.findings, *joining.disagreements(acoustics)))


class _Joining:
    def __init__(self, composition: Composition, read: Acoustics | None) -> None:
        section = composition.values.get("acoustics")
        self.composition = composition
        self.section: Mapping[str, Any] = section if isinstance(section, dict) else {}
        # An invalid value is not in `read`, and was reported when the section was read.
        self.given = {name: value for name, value in self.section.items() if getattr(read, name, None) == value}
        self.declared: dict[str, tuple[Any, CheckedComponent]] = {}
        self.findings: list[Finding] = []

    def add(self, model: CheckedComponent) -> None:
        """Adds the declarations of a model, and reports declarations that contradict the section or another model."""
        declarations = declared_acoustics(class_of(model.target))
        path = model.component.path
        for problem in _mistakes(declarations) if declarations else ():
            message = f"the attribute `acoustics` of `{path}` is wrong: {problem.message}"
            self.report(replace(problem, message=message, place=("path",), suggestion=None), model.component.key)
            declarations.pop(str(problem.place[1]), None)
        for name, value in declarations.items():
            if name in self.given and self.given[name] != value:
                finding = Diagnostic(
                    config_codes.NUMBERS_DISAGREE,
                    f"`{name}` is {toml_text(self.given[name])}, but `{path}` declares {toml_text(value)}",
                    label="leave it out: the model declares it",
                    notes=(f"[{model.component.section}]: {model.origin}",),
                )
                self.report(finding, ("acoustics", name))
            elif name in self.declared and self.declared[name][0] != value:
                other, first = self.declared[name]
                finding = Diagnostic(
                    config_codes.NUMBERS_DISAGREE,
                    f"`{path}` declares `{name} = {toml_text(value)}`, but `{first.component.path}` declares "
                    f"{toml_text(other)}",
                    label="all networks of an experiment share [acoustics]",
                    notes=(f"[{first.component.section}]: {first.origin}",),
                    place=("path",),
                )
                self.report(finding, model.component.key)
            else:
                self.declared[name] = value, model

    def disagreements(self, acoustics: Acoustics) -> Iterator[Finding]:
        """Yields findings about settings that contradict each other: frame lengths, or a window and its parameters."""
        yield from self._at_most(acoustics, "win_length", "n_fft")
        yield from self._at_most(acoustics, "hop_length", "win_length")
        if self._is_usable("window", "window_args") and (
            message := window_error(acoustics.window, acoustics.window_args)
        ):
            notes = ("help: set the window's parameters in `window_args`, such as `window_args = { beta = 8.0 }`",)
            finding = Diagnostic(config_codes.BAD_VALUE, message, notes=notes)
            yield self._placed(finding, "window_args", "window")

    def _at_most(self, acoustics: Acoustics, name: str, other: str) -> Iterator[Finding]:
        value, limit = getattr(acoustics, name), getattr(acoustics, other)
        if value <= limit or not self._is_usable(name, other):
            return
        by_default = "" if other in self.section or other in self.declared else " by default"
        label = f"`{other}` is {limit}{by_default}"
        if name not in self.section and other in self.section:
            label = f"`{name}` is {value}{'' if name in self.declared else ' by default'}"
        message = f"`{name}` is {value}, but must be at most `{other}`, which is {limit}"
        yield self._placed(Diagnostic(config_codes.NUMBERS_DISAGREE, message, label=label), name, other)

    def _placed(self, finding: Diagnostic, *names: str) -> Finding:
        """Places a finding at the first named setting that the section contains, or else at the model that declares
        it.
        """
        for name in names:
            if name in self.section:
                return finding, ("acoustics", name)
        for name in names:
            if name in self.declared:
                return replace(finding, place=("path",)), self.declared[name][1].component.key
        return finding, ("acoustics",)

    def _is_usable(self, *names: str) -> bool:
        return all(name in self.given for name in names if name in self.section)

    def report(self, finding: Diagnostic, key: KeyPath) -> None:
        self.findings.append((finding, key))


def _mistakes(declared: Mapping[str, Any]) -> list[Diagnostic]:
    """Returns the errors in the settings that a model declares, each with the place `("args", name, …)`."""
    found = check_arguments(signature_of(Acoustics), declared, name="[acoustics]", noun="setting")
    wrong = {finding.place[1] for finding in found}
    for name, key in keys_of(Acoustics).items():
        if name not in declared or name in wrong:
            continue
        value, choices = declared[name], key.rules.get("choices")
        if choices is not None and value not in choices:
            message = f"`{name}` is `{value}`, but must be one of {', '.join(choices)}"
            found.append(Diagnostic(config_codes.BAD_VALUE, message, place=("args", name)))
    return found


def rate_findings(checked: CheckedComponent, acoustics: Acoustics) -> Iterator[Finding]:
    """Yields an error if the argument `sr` of a data set differs from `sr` in `[acoustics]`."""
    rate = checked.component.args.get("sr")
    if type(rate) is int and rate != acoustics.sr:
        message = f"`sr` of `{checked.component.path}` is {rate}, but {acoustics.sr} in `[acoustics]`"
        label = "leave it out: AudioZEN passes it"
        finding = Diagnostic(config_codes.NUMBERS_DISAGREE, message, label=label, place=("args", "sr"))
        yield finding, checked.component.key


def argument_findings(checked: CheckedComponent, composition: Composition) -> Iterator[Finding]:
    """Yields a finding for each argument of a model, such as `n_fft`, that differs from its value in `[acoustics]`."""
    section = composition.values.get("acoustics")
    model, signature = checked.component, checked.signature
    if not isinstance(section, dict) or signature is None:
        return
    for name in ("sr", "n_fft", "hop_length", "win_length"):
        parameter, wanted = signature.get(name), section.get(name)
        if parameter is None or type(wanted) is not int:
            continue
        value = model.args.get(name, parameter.default)
        if type(value) is not int or value == wanted:
            continue
        is_set = name in model.args
        reference = f'"${{acoustics.{name}}}"'
        yield (
            Diagnostic(
                config_codes.NUMBERS_DISAGREE,
                f"`{name}` of `{model.path}` is {value}{'' if is_set else ' by default'}, but {wanted} "
                "in `[acoustics]`",
                severity="error" if is_set else "warning",
                label=f"write `{reference}`" if is_set else f"set `{name} = {reference}` in its args",
                suggestion=reference if is_set else None,
                notes=(f"acoustics: {composition.origin(('acoustics', name))}",),
                place=("args", name) if is_set else (),
            ),
            model.key,
        )
