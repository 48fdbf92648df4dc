"""Imports components one by one and reports what is wrong with them: the child's side of `plugins doctor`.

The parent sends one JSON object on the standard input, with `path` (the `sys.path` to use) and `entries`. For each
entry the child sends a line of JSON before the import, such as `{"place": 0}`, and one with the findings after it. So
if the process hangs or ends, the parent knows during which import.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from audiozen_core.binding.arguments import check_kind
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, as_data
from audiozen_core.errors import AudioZenError, MissingExtraError
from audiozen_core.hooks.checks import hook_findings
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.index import Entry
from audiozen_core.registry.paths import load


def main() -> None:
    """Reads the request and sends the findings."""
    # Otherwise output of a component would get between the answers.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    if any(entry["group"] != "audiozen.commands" for entry in request["entries"]):
        # Torch is imported first, so that its time does not count for a component.
        import audiozen_core.experiment.build  # noqa: F401
    for place, fields in enumerate(request["entries"]):
        _send(channel, {"place": place})
        findings = [as_data(finding) for finding in findings_about(Entry(**fields))]
        _send(channel, {"place": place, "findings": findings})
    # `os._exit` does not wait for threads and exit functions that a component has left behind.
    channel.close()
    os._exit(0)


def findings_about(entry: Entry) -> Iterator[Diagnostic]:
    """Imports a component and yields what is wrong with it."""
    try:
        found = load(entry)
    except MissingExtraError as error:
        # Nobody has to install an extra, so the component is not broken.
        yield from (_about(entry, replace(finding, severity="warning")) for finding in error.diagnostics)
        return
    except AudioZenError as error:
        for finding in error.diagnostics:
            # The message of a `PathError` names the component already.
            named = finding if isinstance(error, PathError) else _about(entry, finding)
            yield replace(named, notes=(*_traceback(error), *named.notes))
        return
    for finding in _findings_about_object(entry, found.target):
        yield _about(entry, finding)
    if found.printed.strip():
        yield _about(
            entry,
            Diagnostic(
                config_codes.IMPORT_PRINTS,
                "it writes to the standard output while it is imported",
                "warning",
                notes=(
                    f"output: {found.printed.strip().splitlines()[0]}",
                    f"help: tell the authors of {entry.distribution}",
                ),
            ),
        )


def _findings_about_object(entry: Entry, target: Any) -> Iterator[Diagnostic]:
    """What is wrong with an imported object."""
    if entry.kind == "commands":
        import click

        if not isinstance(target, click.Command):
            yield Diagnostic(config_codes.WRONG_KIND, f"`{entry.value}` is not a click command")
        return
    if wrong := check_kind(entry.kind, target):
        yield wrong
    if entry.kind == "hooks" and isinstance(target, type):
        yield from hook_findings(target)


def _about(entry: Entry, finding: Diagnostic) -> Diagnostic:
    return replace(finding, message=f"{entry.title}: {finding.message}")


def _traceback(error: BaseException) -> tuple[str, ...]:
    """A note with the component's own part of a traceback, without the machinery that imported it."""
    cause = error.__cause__
    if cause is None:
        return ()
    core = str(Path(__file__).parents[1])
    shown = traceback.TracebackException.from_exception(cause, limit=None)
    frames = [frame for frame in shown.stack if not frame.filename.startswith(("<frozen", core))]
    machinery = {"importlib/__init__.py", "importlib\\__init__.py"}
    shown.stack = traceback.StackSummary.from_list(
        [frame for frame in frames if not any(frame.filename.endswith(end) for end in machinery)]
    )
    return (f"traceback: {''.join(shown.format(chain=True)).rstrip()}",)


def _send(channel: TextIO, answer: dict[str, Any]) -> None:
    channel.write(json.dumps(answer) + "\n")
    channel.flush()
