"""Reads the text of a TOML file, or explains why it can't be read."""

from __future__ import annotations

import os
from pathlib import Path

from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Span
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import ConfigError


def read_text(file: Path) -> str:
    """Reads a file as UTF-8.

    Raises:
        ConfigError: the file can't be read, or the file or its path is not UTF-8.
    """
    if not can_be_utf8(os.path.abspath(file)):  # noqa: PTH100 (symbolic links must not be resolved)
        shown = Path(str(file).encode("utf-8", "backslashreplace").decode())
        reason = "has bytes that are not UTF-8 in its path"
        raise _unreadable(shown, reason, ("help: rename the file or the folder",))
    try:
        # Some editors on Windows write a byte order mark at the start of a file. `utf-8-sig` skips it.
        return _read_bytes(file).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([_undecodable(error, file)]) from None


def can_be_utf8(text: str) -> bool:
    """Returns whether a string can be encoded as UTF-8.

    A string from the operating system, such as a path, may contain bytes that are not UTF-8.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_bytes(file: Path) -> bytes:
    try:
        if file.is_dir():
            raise _unreadable(file, "is a folder, not a TOML file", _neighbours(file))
        if not file.exists():
            raise _unreadable(file, "does not exist", _near_files(file))
        if not file.is_file():
            raise _unreadable(file, "is not a regular file", ())
        return file.read_bytes()
    # Python raises a `ValueError` for a path with a NUL character.
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _unreadable(file, f"can't be read: {reason}", ()) from None


def _unreadable(file: Path, reason: str, notes: tuple[str, ...]) -> ConfigError:
    return ConfigError([Diagnostic(config_codes.UNREADABLE, f"`{file}` {reason}", notes=notes)])


def _toml_files(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.suffix == ".toml")
    except OSError:
        return []


def _neighbours(folder: Path) -> tuple[str, ...]:
    names = _toml_files(folder)
    return (f"help: the folder contains {_list(names)}",) if names else ()


def _near_files(file: Path) -> tuple[str, ...]:
    folder = file.parent
    if not folder.is_dir():
        return (f"help: the folder `{folder}` does not exist either",)
    names = _toml_files(folder)
    if match := nearest(file.name, names) or nearest(file.stem, names):
        return (f"help: {did_you_mean(str(folder / match))}",)
    return (f"help: `{folder}` contains {_list(names) if names else 'no TOML files'}",)


def _list(names: list[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"


def _undecodable(error: UnicodeDecodeError, file: Path) -> Diagnostic:
    content = error.object
    line = content.count(b"\n", 0, error.start) + 1
    start = content.rfind(b"\n", 0, error.start) + 1
    column = len(content[start : error.start].decode("utf-8")) + 1
    return Diagnostic(
        config_codes.NOT_UTF8,
        f"the file is not UTF-8: byte 0x{content[error.start]:02x} is invalid here",
        span=Span(file, line, column, line, column + 1),
        source=content.decode("utf-8", errors="replace").replace("\r\n", "\n").split("\n")[line - 1],
        notes=("help: save the file in UTF-8",),
    )
