"""Structured logs: readable on the console, JSON lines in the run's log file.

`get_logger()` gives the one logger. Every line goes to standard error, so that standard output is left for results;
inside `log_file` it goes to the file as well, with an ISO time in UTC.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

from audiozen_core.storage.append import LineFile

EventDict = MutableMapping[str, Any]


class _FileSink:
    """A processor that writes each event as a JSON line to the files now open, and passes it on.

    A disk that refuses must not end a training: the line is kept for later, and the console is told.
    """

    def __init__(self) -> None:
        self.files: list[LineFile] = []
        self.early: list[str] | None = None
        self._render = structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
        self._stamp = structlog.processors.TimeStamper(fmt="iso", utc=True, key="time")

    def __call__(self, logger: Any, name: str, event: EventDict) -> EventDict:
        if self.files or self.early is not None:
            copy: EventDict = structlog.processors.ExceptionRenderer()(logger, name, dict(event))
            line = str(self._render(logger, name, self._stamp(logger, name, copy)))
            if self.early is not None:
                self.early.append(line)
            for file in self.files:
                if refused := file.write(line):
                    event["not_in_log_file"] = refused.strerror
        return event


class _StandardError:
    """Looks `sys.stderr` up at each line, because progress bars replace it while they are drawn."""

    def msg(self, message: str) -> None:
        # A terminal that has gone away must not end a training; the log file has the line.
        with contextlib.suppress(OSError, ValueError):
            print(message, file=sys.stderr, flush=True)  # noqa: T201

    debug = info = warning = error = critical = exception = log = fatal = msg


_sink = _FileSink()


def configure(*, level: str = "info") -> None:
    """Sets up the console.

    Args:
        level: the least severe level shown, `debug`, `info`, `warning` or `error`.
    """
    colours = sys.stderr is not None and sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _sink,
            structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(colors=colours, pad_event_to=0, sort_keys=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=lambda *_: _StandardError(),
        cache_logger_on_first_use=False,
    )


def get_logger() -> FilteringBoundLogger:
    """The logger of AudioZEN: `get_logger().info("what happened", name=value, …)`."""
    logger: FilteringBoundLogger = structlog.get_logger("audiozen")
    return logger


@contextmanager
def kept_for_log_file() -> Iterator[None]:
    """Keeps the lines of the block for the `log_file` that is opened in it, which thus has those from before, too."""
    _sink.early = []
    try:
        yield
    finally:
        _sink.early = None


@contextmanager
def log_file(path: Path) -> Iterator[None]:
    """Appends every log line to the file, as JSON, while the block runs."""
    file = LineFile(path)
    early, _sink.early = _sink.early, None
    for kept in early or ():
        file.write(kept)
    _sink.files.append(file)
    try:
        yield
    except BaseException as error:
        # Whoever catches it tells the user; the file is to know it too.
        time = datetime.now(timezone.utc).isoformat()
        line = {"event": "ended with an error", "error": str(error) or type(error).__name__, "level": "error"}
        file.write(json.dumps({**line, "time": time}, ensure_ascii=False))
        raise
    finally:
        _sink.files.remove(file)
        if lost := file.close():
            get_logger().error("the disk has not taken all lines of the log", file=str(path), bytes_lost=lost)
