"""The exceptions for errors that a user can fix. Each describes the problem, its position and a remedy."""

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

_OWN_FOLDERS = tuple(
    os.path.join(os.path.dirname(os.path.dirname(__file__)), name, "")  # noqa: PTH118, PTH120 - without `pathlib`
    for name in ("audiozen", "audiozen_core", "audiozen_plugins")
)
_TORCH_CALLS = r"[/\\]torch[/\\](nn[/\\]modules[/\\]module\.py$|utils[/\\]data[/\\])"


class AudioZenError(Exception):
    """The base class of all errors that the user can fix. The command line ends with exit code 2.

    Args:
        message: the problem. Line breaks, as in the messages of torch, become spaces.
        remedy: what the user can do.
        notes: additional lines, each in the form "kind: text".
    """

    code = "AZ000"

    def __init__(self, message: str, *, remedy: str = "", notes: Sequence[str] = ()) -> None:
        # Messages may contain file names that can't be encoded.
        self.message = _one_line(printable(message))
        self.remedy = printable(remedy)
        self.notes = tuple(map(printable, notes))
        super().__init__(self.message)

    @classmethod
    def caused_by(
        cls: type[_Error], error: BaseException, what: str, *, remedy: str = "", notes: Sequence[str] = ()
    ) -> _Error:
        """Creates an error from an exception that code outside of AudioZEN raised. Raise it `from error`.

        Args:
            error: the exception. Its type, its message and the line that raised it become part of the error.
            what: the beginning of the message, which says what failed.
            remedy: what the user can do, besides looking at the traceback.
            notes: additional lines, each in the form "kind: text".

        Example:
            >>> try:
            ...     {}["noisy"]
            ... except KeyError as error:
            ...     DataError.caused_by(error, "sample 3 can't be made:").message
            "sample 3 can't be made: KeyError: 'noisy'"
        """
        import traceback

        # The innermost frame outside of AudioZEN is the code that the user can fix, even if the exception was raised in
        # AudioZEN, which that code had called.
        frames = foreign_frames(error) or traceback.extract_tb(error.__traceback__)
        raised = [f"raised in: {frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name}"] if frames else []
        shown = "`--traceback` shows the full traceback"
        return cls(
            f"{what} {exception_text(error)}",
            remedy=f"{remedy}; {shown}" if remedy else shown,
            notes=(*notes, *raised),
        )

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """The error as one or more findings."""
        remedy = (f"help: {self.remedy}",) if self.remedy else ()
        return (Diagnostic(self.code, self.message, notes=(*self.notes, *remedy)),)

    def __str__(self) -> str:
        return "\n\n".join(render(diagnostic) for diagnostic in self.diagnostics)


def exception_text(error: BaseException) -> str:
    r"""Returns the type and the message of an exception in one line.

    Example:
        >>> exception_text(ValueError("sizes differ:\n  3\n  4")), exception_text(KeyError())
        ('ValueError: sizes differ: 3 4', 'KeyError')
    """
    try:
        message = str(error)
    except Exception:  # the `__str__` of the exception is broken, which must not hide where the exception was raised
        message = ""
    return _one_line(f"{type(error).__name__}: {message}".rstrip(": "))


def _one_line(text: str) -> str:
    lines = text.splitlines()
    return " ".join(filter(None, map(str.strip, lines))) if len(lines) > 1 else text


def foreign_frames(error: BaseException) -> list[traceback.FrameSummary]:
    """Returns the frames of a traceback that are outside of AudioZEN, innermost last.

    Frames of torch that only call a module or a data set are also left out.
    """
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    return [
        frame
        for frame in frames
        if not frame.filename.startswith(_OWN_FOLDERS) and not re.search(_TORCH_CALLS, frame.filename)
    ]


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
        needed_by: a description of the component that needs the package, such as `the metric PESQ`.
        compiled: whether pip needs a C compiler, because the package has no wheels.
    """

    code = "AZ201"

    def __init__(self, package: str, *, extra: str, needed_by: str, compiled: bool = False) -> None:
        compiler = f", which needs a C compiler; without one, do without {needed_by}" if compiled else ""
        super().__init__(
            f"{needed_by} needs the package `{package}`, which is not installed",
            remedy=f"pip install 'audiozen[{extra}]'{compiler}",
        )


class BuildError(AudioZenError):
    """A part of the experiment can't be built: its constructor raised an error, or the device does not exist.

    Args:
        message: the problem, in one line.
        code: the code of this kind of error.
        place: the key within the section that the error is about, such as `("trainable",)`; by default the section
            itself.
        remedy: what the user can do.
        notes: additional lines, each in the form "kind: text".
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
        """The error as a finding. It has a position in the TOML file if `locate` was called."""
        (finding,) = super().diagnostics
        return (self._placed or replace(finding, place=self.place),)

    def locate(self, finding: Diagnostic) -> None:
        """Replaces the finding of this error with one that also has a position in the TOML file."""
        self._placed = finding


class DataError(AudioZenError):
    """Audio or a data set can't be used: it is missing, empty, not audio, has the wrong form, or its code failed."""

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
    """A signal stopped the run. If needed, the run has saved a checkpoint.

    Args:
        number: the number of the signal.
        note: a text that says what was saved.
    """

    def __init__(self, number: int, note: str) -> None:
        import signal

        super().__init__(f"stopped by {signal.Signals(number).name}: {note}")
        self.number = number

    @property
    def exit_code(self) -> int:
        """The exit code that shells use for a signal: 128 plus its number."""
        return 128 + self.number
