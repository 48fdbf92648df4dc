"""The errors that a user can mend. Each says what, where and what to do; `diagnostics.render` prints them."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence

from audiozen_core.diagnostics.diagnostic import Diagnostic, render


class AudioZenError(Exception):
    """The base of every error that is the user's to mend; the command line ends with exit code 2 on it.

    Args:
        message: what is wrong, in one line.
        remedy: what to do about it.
        notes: further lines, each "kind: text".
    """

    code = "AZ000"

    def __init__(self, message: str, *, remedy: str = "", notes: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.notes = tuple(notes)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """All that is wrong, as data."""
        remedy = (f"help: {self.remedy}",) if self.remedy else ()
        return (Diagnostic(self.code, self.message, notes=(*self.notes, *remedy)),)

    def __str__(self) -> str:
        return "\n\n".join(render(diagnostic) for diagnostic in self.diagnostics)


class ConfigError(AudioZenError):
    """What is wrong with an experiment's TOML file: all of it, each finding at its place."""

    code = "AZ100"

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self._diagnostics = tuple(diagnostics)
        super().__init__("; ".join(diagnostic.message for diagnostic in self._diagnostics))

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Every finding, sorted by place."""
        return self._diagnostics


class RegistryError(AudioZenError):
    """A `path` that leads to nothing: no such plugin, a module that fails to import, two plugins with one name."""

    code = "AZ200"


class MissingExtraError(AudioZenError):
    """A component needs a package that is not installed."""

    code = "AZ201"

    def __init__(self, package: str, *, extra: str, needed_by: str) -> None:
        super().__init__(
            f"{needed_by} needs the package `{package}`, which is not installed",
            remedy=f"pip install 'audiozen[{extra}]'",
        )


class BuildError(AudioZenError):
    """A part of the experiment that can't be built: its constructor refused, or the device is not there."""

    code = "AZ210"


class DataError(AudioZenError):
    """An audio file or a data set that cannot be used: missing, empty, of the wrong rate, not audio."""

    code = "AZ300"


class CheckpointError(AudioZenError):
    """A checkpoint that cannot be written, found, or trusted."""

    code = "AZ400"


class RunError(AudioZenError):
    """A run that cannot start or go on: a folder already in use, nothing to resume, a loss that is NaN."""

    code = "AZ500"


class HookError(AudioZenError):
    """A hook that raised, or that answers to no known hook name."""

    code = "AZ600"


class Interrupted(BaseException):
    """The run stops because of a signal; what it had to save is saved.

    Args:
        number: the signal's number.
        note: what has been saved, in words.
    """

    def __init__(self, number: int, note: str) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}: {note}")
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell tells of such an end: 128 plus the signal's number."""
        return 128 + self.number
