"""Imports modules safely: errors, `sys.exit` and output of a module are caught and reported."""

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

from audiozen_core.diagnostics import codes
from audiozen_core.errors import AudioZenError
from audiozen_core.registry import torchaudio_loader
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.scope import ImportScope

_SHOWN_FRAMES = 3


def import_module(name: str) -> ModuleType | None:
    """Imports a module by its full dotted name; None if the module does not exist.

    Raises:
        PathError: the module raises an error or calls `sys.exit`. The original exception is the `__cause__`.
        AudioZenError: the module raises an `AudioZenError` itself.
    """
    torchaudio_loader.install()
    with _reporting(name):
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name == name:
                return None
            raise


def get_attribute(owner: Any, name: str, owner_name: str) -> Any:
    """Works like `getattr`, but also reports errors in modules that import their parts on first access.

    Raises:
        AttributeError: the attribute does not exist.
        PathError: getting the attribute raises another error.
    """
    with _reporting(owner_name, AttributeError):
        return getattr(owner, name)


@contextlib.contextmanager
def _reporting(name: str, *passed: type[Exception]) -> Iterator[None]:
    """Converts exceptions in the block to a `PathError`, except Ctrl-C, `AudioZenError` and the types in `passed`."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, (AudioZenError, KeyboardInterrupt, *passed)):
            raise
        raise _import_failed(name, error) from error


def _import_failed(name: str, error: BaseException) -> PathError:
    trace = traceback.TracebackException.from_exception(error)
    if isinstance(error, SystemExit):
        message = f"the module `{name}` ends the program while it is imported: sys.exit({error.code!r})"
    else:
        # Do not use `str(error)`, because the `__str__` of a plugin's exception may raise an error, too.
        text = "".join(str(trace).splitlines()[:1])
        message = f"the module `{name}` fails while it is imported: {type(error).__name__}{text and f': {text}'}"
    notes = [f"at: {line}" for line in _user_frames(trace.stack, name)]
    if isinstance(error, SyntaxError) and error.filename:
        notes.append(f"at: {_short(error.filename)}:{error.lineno}: {(error.text or '…').strip()}")
    remedy = ""
    if isinstance(error, ImportError) and error.name:
        scope = ImportScope.current()
        hidden = scope.hidden(error.name) if scope else None
        if hidden:
            notes.append(hidden_note(hidden.name))
        elif isinstance(error, ModuleNotFoundError):
            remedy = f"install the package that provides the module `{error.name}`, or fix the import"
            if error.name.partition(".")[0] == "audiozen_core":
                remedy = "import public names, which do not move, such as `from audiozen import hookimpl`"
    return PathError(codes.IMPORT_FAILED, message, notes=notes, remedy=remedy)


def hidden_note(file: str) -> str:
    """Returns the note about a file next to the TOML file that is ignored because its name is reserved."""
    reason = "because Python or AudioZEN has a module of that name"
    return f"note: `{file}` next to the TOML file is ignored, {reason}; rename it"


def _user_frames(stack: traceback.StackSummary, name: str) -> list[str]:
    """Returns the last frames in the user's code, innermost last, as `file:line in function: text`.

    The package of the module `name` counts as the user's code wherever it is installed.
    """
    machinery = {__file__, importlib.__file__, torchaudio_loader.__file__}
    frames = [frame for frame in stack if frame.filename not in machinery and not frame.filename.startswith("<frozen ")]
    top = name.partition(".")[0]
    user_frames = [
        frame
        for frame in frames
        if top in Path(frame.filename).with_suffix("").parts or not _is_installed(frame.filename)
    ]
    return [
        f"{_short(frame.filename)}:{frame.lineno} in {frame.name}: {frame.line or '…'}"
        for frame in (user_frames or frames)[-_SHOWN_FRAMES:]
    ]


def _is_installed(file: str) -> bool:
    """Returns whether a file belongs to the standard library or to an installed package."""
    folders = [sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")]
    return file.startswith("<") or any(Path(file).is_relative_to(folder) for folder in folders)


def _short(file: str) -> str:
    """Returns the file relative to a folder of the experiment or to the working directory, if it is in one of them."""
    scope = ImportScope.current()
    for folder in (*map(Path, scope.dirs if scope else ()), Path.cwd()):
        if Path(file).is_relative_to(folder):
            return str(Path(file).relative_to(folder))
    return file


class _CapturedOutput:
    """Replaces the standard output during an import and stores the output.

    A module may keep a reference to this object, for example in a log handler. After the import, the object therefore
    forwards everything to the real output.
    """

    def __init__(self, output: TextIO) -> None:
        self._output = output
        self._captured = io.StringIO()
        self.released = False

    def write(self, text: str) -> int:
        return (self._output if self.released else self._captured).write(text)

    def close(self) -> None:
        """Does nothing, because a module must not close the output of the program."""

    @property
    def text(self) -> str:
        return self._captured.getvalue()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._output, name)


@contextlib.contextmanager
def capture_standard_output() -> Iterator[_CapturedOutput]:
    """Captures everything that is written to the standard output within the block."""
    captured = _CapturedOutput(sys.stdout)
    with contextlib.redirect_stdout(cast(TextIO, captured)):
        try:
            yield captured
        finally:
            captured.released = True
