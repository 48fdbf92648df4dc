"""The child's side of `plugins doctor`: imports components one by one and tells what it sees.

The parent sends one JSON object on the standard input: `path` (the `sys.path` to use) and `entries`. The answer is a
line of JSON for each: `{"place": 0}` before its import and the facts after it. A component that ends the process, or
never comes back, is the one whose first line was the last.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from audiozen_core.binding.arguments import expected_kind
from audiozen_core.errors import AudioZenError, MissingExtraError
from audiozen_core.hooks.checks import hook_findings
from audiozen_core.registry.index import Entry
from audiozen_core.registry.paths import load


def main() -> None:
    """Reads the request, answers it."""
    # What a component writes to the standard output must not get among the answers.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    if any(entry["group"] != "audiozen.commands" for entry in request["entries"]):
        # Torch is imported here, so that its time is no component's.
        import audiozen_core.experiment.build  # noqa: F401
    for place, fields in enumerate(request["entries"]):
        _tell(channel, {"place": place})
        _tell(channel, {"place": place, **facts(Entry(**fields))})
    # Threads and exit functions that a component has left behind are not waited for.
    channel.close()
    os._exit(0)


def facts(entry: Entry) -> dict[str, Any]:
    """Imports a component and tells what is wrong with it.

    Returns:
        `problems`, each with `kind`, `message`, `remedy` and `traceback`; empty where all is well.
    """
    try:
        found = load(entry)
    except MissingExtraError as error:
        return {"problems": [_problem("missing_extra", error.message, error.remedy)]}
    except AudioZenError as error:
        return {"problems": [_problem("broken", error.message, error.remedy, _traceback(error))]}
    problems = list(_wrong(entry, found.target))
    if found.printed.strip():
        first = found.printed.strip().splitlines()[0]
        problems.append(_problem("prints", f"it writes to the standard output while it is imported: {first}"))
    return {"problems": problems}


def _wrong(entry: Entry, target: Any) -> Iterator[dict[str, str]]:
    """What is wrong with an object that could be imported."""
    if entry.kind == "commands":
        import click

        if not isinstance(target, click.Command):
            yield _problem("wrong_kind", f"`{entry.value}` is no click command")
        return
    if wrong := expected_kind(entry.kind, target):
        yield _problem("wrong_kind", wrong.message)
    if entry.kind == "hooks" and isinstance(target, type):
        for finding in hook_findings(target):
            yield _problem("hook", finding.message, finding.notes[0].removeprefix("help: "))


def _problem(kind: str, message: str, remedy: str = "", traceback: str = "") -> dict[str, str]:
    return {"kind": kind, "message": message, "remedy": remedy, "traceback": traceback}


def _traceback(error: BaseException) -> str:
    """The component's own part of a traceback, without the machinery that imported it."""
    cause = error.__cause__
    if cause is None:
        return ""
    core = str(Path(__file__).parents[1])
    shown = traceback.TracebackException.from_exception(cause, limit=None)
    frames = [frame for frame in shown.stack if not frame.filename.startswith(("<frozen", core))]
    machinery = {"importlib/__init__.py", "importlib\\__init__.py"}
    shown.stack = traceback.StackSummary.from_list(
        [frame for frame in frames if not any(frame.filename.endswith(end) for end in machinery)]
    )
    return "".join(shown.format(chain=True)).rstrip()


def _tell(channel: TextIO, answer: dict[str, Any]) -> None:
    channel.write(json.dumps(answer) + "\n")
    channel.flush()
