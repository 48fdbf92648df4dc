"""Structured logs: readable on the console, JSON lines in the run's log file.

`get_logger()` returns the only logger. Every line goes to standard error, because standard output is for results.
Within the context manager `log_file`, every line is also written to the file, with an ISO time in UTC.

Importing structlog also imports rich, which is slow, so structlog is imported only by the first `get_logger()`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiozen_core.diagnostics.printable import printable

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from audiozen_core.storage.append import LineFile

EventDict = MutableMapping[str, Any]


class _FileSink:
    """A processor that writes each event as a JSON line to the open log files, and passes it on to the console.

    A full disk must not end a run. If a line can't be written, the file keeps it for later, and the line on the console
    gets a field with the error.
    """

    def __init__(self) -> None:
        self.files: list[LineFile] = []
        self.early: list[str] | None = None

    def __call__(self, logger: Any, name: str, event: EventDict) -> EventDict:
        if _silent.get():
            from structlog import DropEvent

            raise DropEvent
        if self.files or self.early is not None:
            from structlog import processors

            copy: EventDict = processors.ExceptionRenderer()(logger, name, dict(event))
            stamped = processors.TimeStamper(fmt="iso", utc=True, key="time")(logger, name, copy)
            line = str(processors.JSONRenderer(default=str, ensure_ascii=False)(logger, name, stamped))
            if self.early is not None:
                self.early.append(line)
            for file in self.files:
                if error := file.write(line):
                    event["not_in_log_file"] = error.strerror
        return event


class _StandardError:
    """A logger that prints to the current `sys.stderr`, because progress bars replace it while they are shown."""

    def msg(self, message: str) -> None:
        # If the terminal was closed, the training must continue. The log file still gets the line.
        with contextlib.suppress(OSError, ValueError):
            print(printable(message), file=sys.stderr, flush=True)  # noqa: T201

    debug = info = warning = error = critical = exception = log = fatal = msg


class _Renderer:
    """Formats an event for the console, or returns the text of `shown_as` instead."""

    def __init__(self, *, colours: bool) -> None:
        import structlog

        self._render = structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0, sort_keys=False)

    def __call__(self, logger: Any, name: str, event: EventDict) -> str:
        return _shown_as.get() or self._render(logger, name, event)


_sink = _FileSink()
_pending_level: list[str] = []  # the level that `configure` was called with, until structlog is imported
# Context variables are separate for each thread, so lines of other threads are not affected.
_shown_as: ContextVar[str] = ContextVar("shown_as", default="")
_silent: ContextVar[bool] = ContextVar("silent", default=False)


def configure(*, level: str = "info") -> None:
    """Sets up the log on the console.

    Args:
        level: the lowest level to show: `debug`, `info`, `warning` or `error`.
    """
    _pending_level[:] = [level]
    if "structlog" in sys.modules:
        _configure_structlog()


def _configure_structlog() -> None:
    import structlog

    structlog.configure(**_settings(_pending_level.pop()))


def _settings(level: str) -> dict[str, Any]:
    import structlog

    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    colours = sys.stderr is not None and sys.stderr.isatty() and not is_plain
    return {
        "processors": [
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _sink,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            _Renderer(colours=colours),
        ],
        "wrapper_class": structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        "logger_factory": lambda *_: _StandardError(),
        "cache_logger_on_first_use": False,
    }


def get_logger() -> FilteringBoundLogger:
    """Returns AudioZEN's logger: `get_logger().info("what happened", name=value, …)`."""
    import structlog

    if _pending_level:
        _configure_structlog()
    logger: FilteringBoundLogger
    if structlog.is_configured():
        logger = structlog.get_logger("audiozen")
        return logger
    # A program uses AudioZEN as a library. By default, structlog prints to standard output, between the program's
    # results. The program's own loggers must not change.
    settings = _settings("info")
    logger = structlog.wrap_logger(_StandardError(), settings["processors"], settings["wrapper_class"])
    return logger


@contextmanager
def log_fields(**fields: str) -> Iterator[None]:
    """Adds fields to every log line within the block."""
    from structlog.contextvars import bound_contextvars

    with bound_contextvars(**fields):
        yield


@contextmanager
def shown_as(text: str) -> Iterator[None]:
    """Shows a text on the console instead of each log line in the block. The log file gets the original lines.

    If the level of a line is hidden, nothing is shown for it.

    Args:
        text: one or more lines, such as the row of a table.
    """
    token = _shown_as.set(text)
    try:
        yield
    finally:
        _shown_as.reset(token)


@contextmanager
def silenced() -> Iterator[None]:
    """Drops all log lines in the block. Use it for work that will be repeated and would log the same lines again."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


@contextmanager
def buffered_for_log_file() -> Iterator[None]:
    """Buffers log lines until a `log_file` is opened within the block, so that the file also gets these early lines."""
    _sink.early = []
    try:
        yield
    finally:
        _sink.early = None


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Appends every log line within the block to a file, as JSON."""
    from audiozen_core.storage.append import LineFile

    file = LineFile(path)
    early, _sink.early = _sink.early, None
    for early_line in early or ():
        file.write(early_line)
    _sink.files.append(file)
    try:
        yield
    except BaseException as error:
        # The caller prints the error on the console, so only the log file needs a line about it.
        time = datetime.now(timezone.utc).isoformat()
        line = {"event": "ended with an error", "error": str(error) or type(error).__name__, "level": "error"}
        file.write(json.dumps({**line, "time": time}, ensure_ascii=False))
        raise
    finally:
        _sink.files.remove(file)
        if lost := file.close():
            get_logger().error("some lines of the log could not be written", file=str(path), bytes_lost=lost)
