"""From a TOML file to a checked, typed configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.config.compose import compose
from audiozen_core.config.composition import Composition
from audiozen_core.config.read_sections import Sections, read_sections
from audiozen_core.config.sections import Component, ExperimentConfig
from audiozen_core.config.toml.emit import emit
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Inspection:
    """What could be read of a TOML file, even if it has errors.

    Attributes:
        config: the configuration, or None where there are errors.
        findings: all errors and warnings, sorted by place.
        composition: the values with their origins.
        components: every component that could be read.
    """

    config: ExperimentConfig | None
    findings: tuple[Diagnostic, ...]
    composition: Composition
    components: tuple[Component, ...]

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """The findings that keep the experiment from running."""
        return tuple(finding for finding in self.findings if finding.severity == "error")

    @property
    def warnings(self) -> tuple[Diagnostic, ...]:
        """The findings that don't."""
        return tuple(finding for finding in self.findings if finding.severity == "warning")


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A configuration without errors.

    Attributes:
        config: the configuration.
        warnings: renamed keys, dropped arguments and the like, sorted by place.
        composition: the values with their origins.
        components: every component of the configuration.
    """

    config: ExperimentConfig
    warnings: tuple[Diagnostic, ...]
    composition: Composition
    components: tuple[Component, ...]


def load_config(
    path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    modes: Sequence[str] = ("train",),
    *,
    environment: Mapping[str, str] | None = None,
) -> LoadedConfig:
    """Reads, composes and checks an experiment's TOML file. No component is imported; see `check` for that.

    Args:
        path: the file.
        overrides: each `key=value`, or `+key=value` to add a key.
        modes: the modes to run, which decide the sections that are needed.
        environment: the variables for `${env:…}` (default: those of the process).

    Raises:
        ConfigError: with every error and warning of the file, sorted by place.
    """
    inspection = inspect_config(path, overrides, modes, environment=environment)
    if inspection.config is None:
        raise ConfigError(inspection.findings)
    return LoadedConfig(inspection.config, inspection.warnings, inspection.composition, inspection.components)


def inspect_config(
    path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    modes: Sequence[str] = ("train",),
    *,
    environment: Mapping[str, str] | None = None,
) -> Inspection:
    """Like `load_config`, but returns the errors together with everything that could be read.

    Raises:
        ConfigError: if a file can't be read at all.
    """
    composition = compose(path, overrides, environment)
    sections = read_sections(composition, modes)
    findings = sort_findings(composition, composition.findings)
    wrong = any(finding.severity == "error" for finding in findings)
    config = None if wrong else _config(Path(path), composition, sections)
    return Inspection(config, findings, composition, tuple(sections.components()))


def sort_findings(composition: Composition, findings: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Sorts by place: findings in the file itself come first, then those in extended files, then those in `--set`."""
    return tuple(sorted(findings, key=lambda finding: _place(composition, finding)))


def _place(composition: Composition, finding: Diagnostic) -> tuple[Any, ...]:
    span = finding.span
    if span is None:
        return (0,)
    ranks = {composition.main.file: 1, Path("--set"): 3}
    return ranks.get(span.file, 2), str(span.file), span.line, span.column


def _config(path: Path, composition: Composition, sections: Sections) -> ExperimentConfig:
    if sections.meta is None or not sections.components_by_kind["trainer"]:
        raise AssertionError("a missing section has been reported")
    return ExperimentConfig(
        id=sections.meta.id or path.stem,
        file=Path(os.path.abspath(path)),  # noqa: PTH100 (a symbolic link keeps its name, which is the ID)
        meta=sections.meta,
        acoustics=sections.acoustics or Acoustics(),
        components=sections.components_by_kind,
        datasets=sections.datasets,
        hooks=sections.hooks,
        text=emit(composition.values),
    )
