"""The errors that a user can fix. Each says what is wrong, where, and what to do; `diagnostics.render` prints them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from audiozen_core.diagnostics.diagnostic import Diagnostic, render
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.diagnostics.printable import printable

if TYPE_CHECKING:
    import traceback

_Error = TypeVar("_Error", bound="AudioZenError")

_OWN = tuple(
    os.path.join(os.path.dirname(os.path.dirname(__file__)), name, "")  # noqa: PTH118, PTH120 - without `pathlib`
    for name in ("audiozen", "audiozen_core", "audiozen_plugins")
)
_CALLS = r"[/\\]torch[/\\](nn[/\\]modules[/\\]module\.py$|utils[/\\]data[/\\])"


class AudioZenError(Exception):
    """The base class of all errors that the user can fix. The command line ends with exit code 2.

    Args:
        message: what is wrong, in one line.
        remedy: what to do about it.
        notes: further lines, each "kind: text".
    """

    code = "AZ000"

    def __init__(self, message: str, *, remedy: str = "", notes: Sequence[str] = ()) -> None:
        # They may contain file names.
        self.message = printable(message)
        self.remedy = printable(remedy)
        self.notes = tuple(map(printable, notes))
        super().__init__(self.message)

    @classmethod
    def caused_by(
        cls: type[_Error], error: BaseException, what: str, *, remedy: str = "", notes: Sequence[str] = ()
    ) -> _Error:
        """Makes the error for an exception that code outside of AudioZEN has raised. Raise it `from error`.

        Args:
            error: the exception. Its type, its message and the line that raised it become part of the error.
            what: the beginning of the message, which says what has failed.
            remedy: what to do about it, besides looking at the traceback.
            notes: further lines, each "kind: text".

        Example:
            >>> try:
            ...     {}["noisy"]
            ... except KeyError as error:
            ...     DataError.caused_by(error, "sample 3 can't be made:").message
            "sample 3 can't be made: KeyError: 'noisy'"
        """
        import traceback

        # The last frame of other people's code is where they can mend it, even if it has called AudioZEN.
        frames = foreign_frames(error) or traceback.extract_tb(error.__traceback__)
        raised = [f"raised in: {frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name}"] if frames else []
        shown = "`--traceback` shows the full traceback"
        return cls(
            f"{what} {type(error).__name__}: {error}".rstrip(": "),
            remedy=f"{remedy}; {shown}" if remedy else shown,
            notes=(*notes, *raised),
        )

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Everything that is wrong, as data."""
        remedy = (f"help: {self.remedy}",) if self.remedy else ()
        return (Diagnostic(self.code, self.message, notes=(*self.notes, *remedy)),)

    def __str__(self) -> str:
        return "\n\n".join(render(diagnostic) for diagnostic in self.diagnostics)


def foreign_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Returns the frames of an error that lie outside of AudioZEN, the innermost last.

    Torch's code that only calls a module or a data set is left out as well.
    """
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if not frame.filename.startswith(_OWN) and not re.search(_CALLS, frame.filename)]


class ConfigError(AudioZenError):
    """An experiment's TOML file has errors. The message lists all errors with their positions.

    Args:
        diagnostics: all findings, errors and warnings.
    """

    code = "AZ100"

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self._diagnostics = tuple(diagnostics)
        super().__init__("; ".join(diagnostic.message for diagnostic in self._diagnostics))

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """Every finding, sorted by position."""
        return self._diagnostics


class RegistryError(AudioZenError):
    """A `path` can't be used: the plugin does not exist, its import fails, or two plugins have the same name."""

    code = "AZ200"


class MissingExtraError(AudioZenError):
    """A component needs a package that is not installed.

    Args:
        package: the name of the package.
        extra: the extra of AudioZEN that installs it.
        needed_by: what needs it, in words, such as `the metric PESQ`.
    """

    code = "AZ201"

    def __init__(self, package: str, *, extra: str, needed_by: str) -> None:
        super().__init__(
            f"{needed_by} needs the package `{package}`, which is not installed",
            remedy=f"pip install 'audiozen[{extra}]'",
        )


class BuildError(AudioZenError):
    """A part of the experiment can't be built: its constructor raised an error, or the device does not exist.

    Args:
        message: what is wrong, in one line.
        code: the code of this kind of error.
        place: the key within the section that is wrong, such as `("trainable",)`; by default the section itself.
        remedy: what to do about it.
        notes: further lines, each "kind: text".
    """

    code = "AZ210"

    def __init__(
        self, message: str, *, code: str = code, place: KeyPath = (), remedy: str = "", notes: Sequence[str] = ()
    ) -> None:
        super().__init__(message, remedy=remedy, notes=notes)
        self.code = code
        self.place = place
        self._placed: Diagnostic | None = None

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """The finding, with its position in the TOML file if `locate` has given it one."""
        (finding,) = super().diagnostics
        return (self._placed or replace(finding, place=self.place),)

    def locate(self, finding: Diagnostic) -> None:
        """Replaces the finding by the same one with its position in the TOML file."""
        self._placed = finding


class DataError(AudioZenError):
    """Audio or a data set can't be used: it is missing, empty, not audio, of another form, or its code is wrong."""

    code = "AZ300"


class CheckpointError(AudioZenError):
    """A checkpoint can't be written, found or trusted."""

    code = "AZ400"


class RunError(AudioZenError):
    """A run can't start or continue: its folder is in use, it has no checkpoint to resume from, or the loss is NaN."""

    code = "AZ500"


class HookError(AudioZenError):
    """A hook raised an error, or its name is unknown."""

    code = "AZ600"


class Interrupted(BaseException):
    """The run stops because of a signal, after it has saved a checkpoint if it needs one.

    Args:
        number: the signal's number.
        note: what has been saved, in words.
    """

    def __init__(self, number: int, note: str) -> None:
        import signal

        super().__init__(f"stopped by {signal.Signals(number).name}: {note}")
        self.number = number

    @property
    def exit_code(self) -> int:
        """The exit code that shells use for a signal: 128 plus its number."""
        return 128 + self.number
