"""Imports modules safely: errors, `sys.exit` and output during an import are reported instead of taking effect."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO, cast

from audiozen_core.errors import AudioZenError
from audiozen_core.registry import torchaudio_loader
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.scope import ImportScope

_SHOWN_FRAMES = 3
_SHOWN_OUTPUT = 400


class NoSuchModuleError(Exception):
    """There is no module of that name. A module that exists but fails raises `PathError`."""


def import_module(name: str) -> ModuleType:
    """Imports a module by its full dotted name.

    Raises:
        NoSuchModuleError: the module does not exist.
        PathError: the module raises an error or calls `sys.exit`; that exception is the `__cause__`.
        AudioZenError: the module itself raises one.
    """
    torchaudio_loader.install()
    with _reporting(name, NoSuchModuleError):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name == name:
                raise NoSuchModuleError(name) from None
            raise


def get_attribute(owner: Any, name: str, owner_name: str) -> Any:
    """`getattr` for modules that import their parts on first access.

    Raises:
        AttributeError: there is no such attribute.
        PathError: the access raises another error.
    """
    try:
        with _reporting(owner_name, AttributeError):
            return getattr(owner, name)
    except AttributeError:
        raise AttributeError(f"`{owner_name}` has no attribute `{name}`") from None


@contextlib.contextmanager
def _reporting(name: str, passed: type[Exception]) -> Iterator[None]:
    """Turns exceptions into a `PathError`, except for Ctrl-C, `AudioZenError` and the type `passed`."""
    try:
        yield
    except (AudioZenError, passed, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise _import_failed(name, error) from error


def _import_failed(name: str, error: BaseException) -> PathError:
    if isinstance(error, SystemExit):
        message = f"the module `{name}` ends the program while it is imported: sys.exit({error.code!r})"
    else:
        message = f"the module `{name}` fails while it is imported: {_said(error)}"
    notes = [f"at: {line}" for line in user_frames(error, name)]
    remedy = ""
    if isinstance(error, ImportError) and error.name:
        scope = ImportScope.current()
        hidden = scope.hidden(error.name) if scope else None
        if hidden:
            notes.append(hidden_note(hidden.name))
        elif isinstance(error, ModuleNotFoundError):
            remedy = f"install the package that has the module `{error.name}`, or mend the import"
    return PathError("import_failed", message, notes=notes, remedy=remedy)


def _said(error: BaseException) -> str:
    """The type of an exception and the first line of its text."""
    kind = type(error).__name__
    try:
        lines = str(error).splitlines()
    except Exception:  # somebody else's __str__
        return kind
    return f"{kind}: {lines[0]}" if lines else kind


def hidden_note(file: str) -> str:
    """The note about a recipe's file that is ignored because of its name."""
    return f"note: `{file}` beside the TOML is ignored, as Python or AudioZEN needs the module of that name; rename it"


def user_frames(error: BaseException, name: str) -> list[str]:
    """The last frames of a traceback in the user's code, innermost last, as `file:line in function: text`.

    Args:
        error: the exception.
        name: the module that was imported. Its package counts as the user's code wherever it is installed.
    """
    frames = [
        (frame, number)
        for frame, number in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith("<frozen ") and not _is_machinery(frame.f_code.co_filename)
    ]
    top = name.partition(".")[0]
    own = [
        (frame, number)
        for frame, number in frames
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] == top or _is_own(frame.f_code.co_filename)
    ]
    shown = traceback.StackSummary.extract(iter((own or frames)[-_SHOWN_FRAMES:]))
    lines = [f"{_short(frame.filename)}:{frame.lineno} in {frame.name}: {frame.line or '…'}" for frame in shown]
    if isinstance(error, SyntaxError) and error.filename:
        lines.append(f"{_short(error.filename)}:{error.lineno}: {(error.text or '…').strip()}")
    return lines


def _is_machinery(file: str) -> bool:
    return file in {__file__, importlib.__file__, torchaudio_loader.__file__}


def _is_own(file: str) -> bool:
    """Whether a file is neither part of the standard library nor installed."""
    folders = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    return not file.startswith("<") and not any(Path(file).is_relative_to(folder) for folder in folders)


def _short(file: str) -> str:
    """The file relative to the experiment's folder or to the working directory, where it lies below one of them."""
    scope = ImportScope.current()
    for folder in (*map(Path, scope.dirs if scope else ()), Path.cwd()):
        if Path(file).is_relative_to(folder):
            return str(Path(file).relative_to(folder))
    return file


class CapturedOutput:
    """Replaces the standard output during an import and keeps what is written.

    A module may keep this object, as a log handler does. So once released, it passes everything on to the real output.
    """

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._captured = io.StringIO()
        self._released = False

    def write(self, text: str) -> int:
        """Keeps the text, or passes it on after `release`."""
        return (self._output if self._released else self._captured).write(text)

    def release(self) -> None:
        """Ends the capture."""
        self._released = True

    @property
    def text(self) -> str:
        """The beginning of what was captured."""
        text = self._captured.getvalue()
        return text if len(text) <= _SHOWN_OUTPUT else text[:_SHOWN_OUTPUT] + "…"

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)


@contextlib.contextmanager
def capture_standard_output() -> Iterator[CapturedOutput]:
    """Captures what the block prints."""
    captured = CapturedOutput(sys.stdout)
    with contextlib.redirect_stdout(cast(TextIO, captured)):
        try:
            yield captured
        finally:
            captured.release()
