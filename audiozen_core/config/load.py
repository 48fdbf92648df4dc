"""Loads a TOML file as a typed configuration."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.config.compose import compose
from audiozen_core.config.composition import Composition
from audiozen_core.config.overrides import Overrides
from audiozen_core.config.read_sections import Sections, read_sections
from audiozen_core.config.sections import ExperimentConfig
from audiozen_core.config.toml.document import Document
from audiozen_core.config.toml.emit import emit
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.distributed.settings import Distributed
from audiozen_core.errors import ConfigError
from audiozen_core.launcher.settings import Launcher


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A loaded TOML file. If the file has errors, only the sections without errors are available.

    Attributes:
        composition: the values with their origins.
        sections: the sections without errors.
        findings: all errors and warnings, sorted by position.
        modes: the modes to run.
    """

    composition: Composition
    sections: Sections
    findings: tuple[Diagnostic, ...]
    modes: Sequence[str] = ()

    @property
    def config(self) -> ExperimentConfig:
        """The configuration of the experiment.

        Raises:
            ConfigError: the file has errors. The exception holds every error and warning.
        """
        self.raise_errors()
        file, sections = self.composition.main.file, self.sections
        if sections.meta is None:
            raise AssertionError("a missing section has been reported")
        return ExperimentConfig(
            id=sections.meta.id or file.stem,
            file=Path(os.path.abspath(file)),  # noqa: PTH100 (a symbolic link keeps its name, which is the ID)
            meta=sections.meta,
            acoustics=sections.acoustics or Acoustics(),
            distributed=sections.distributed or Distributed(),
            launcher=sections.launcher or Launcher(),
            components=sections.components_by_kind,
            datasets=sections.datasets,
            hooks=sections.hooks,
            text=emit(self.composition.values),
        )

    def raise_errors(self) -> None:
        """Raises a `ConfigError` with every error and warning, if there are errors."""
        if any(finding.severity == "error" for finding in self.findings):
            raise ConfigError(self.findings)


def load_config(
    path: str | os.PathLike[str] | Document,
    overrides: Overrides = (),
    modes: Sequence[str] = ("train",),
    *,
    environment: Mapping[str, str] | None = None,
) -> LoadedConfig:
    """Reads and composes an experiment's TOML file. Components are not imported; `check_config` does that.

    Args:
        path: the file, or its contents.
        overrides: a list of strings, `key=value` to change a key and `+key=value` to add a key; or a mapping from keys
            to values.
        modes: the modes to run. They determine which sections are required.
        environment: the variables for `${env:…}` (default: the environment of the process).

    Raises:
        ConfigError: the file, or a file that it extends, can't be read or is not valid TOML.
    """
    composition = compose(path, overrides, environment)
    sections = read_sections(composition, modes)
    return LoadedConfig(composition, sections, sort_findings(composition, composition.findings), tuple(modes))


def sort_findings(composition: Composition, findings: Sequence[Diagnostic]) -> tuple[Diagnostic, ...]:
    """Sorts findings by position: first the file itself, then the extended files, then `--set`."""
    return tuple(sorted(findings, key=lambda finding: _place(composition, finding)))


def _place(composition: Composition, finding: Diagnostic) -> tuple[Any, ...]:
    span = finding.span
    if span is None:
        return (0,)
    ranks = {composition.main.file: 1, Path("--set"): 3}
    return ranks.get(span.file, 2), str(span.file), span.line, span.column
