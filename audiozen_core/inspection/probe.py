"""Imports components one by one, and reports problems with them. This is the child's side of `audiozen plugins doctor`.

The parent sends one JSON object on the standard input, with `path` (the `sys.path` to use) and `entries`. The child
answers with one line of JSON when it is ready, and then with one line for each entry, with the findings about it. If
the child hangs or ends, the number of lines tells the parent which import caused it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, is_dataclass, replace
from typing import Any, TextIO

from audiozen_core.binding.arguments import check_kind
from audiozen_core.config.plugin_sections import KIND
from audiozen_core.diagnostics import codes, config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import AudioZenError, MissingExtraError
from audiozen_core.hooks.checks import hook_findings
from audiozen_core.hooks.spec_lookup import KIND as HOOKSPECS
from audiozen_core.hooks.spec_lookup import spec_faults
from audiozen_core.registry.entry import Entry
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.paths import load_entry


def main() -> None:
    """Reads the request and sends the findings."""
    # Components may print while they are imported. Their output goes to the standard error, so that only answers go to
    # the standard output.
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    if any(entry["group"] != "audiozen.commands" for entry in request["entries"]):
        # This imports torch, so that its import time does not count as the import time of a component.
        import audiozen_core.experiment.build  # noqa: F401
    _send(channel, [])
    for fields in request["entries"]:
        _send(channel, findings_about(Entry(**fields)))
    # `os._exit` does not wait for threads or exit functions that a component has started or registered.
    channel.close()
    os._exit(0)


def findings_about(entry: Entry) -> Iterator[Diagnostic]:
    """Imports a component, and yields the problems with it."""
    try:
        resolved = load_entry(entry)
    except AudioZenError as error:
        for finding in error.diagnostics:
            # The message of a `PathError` already names the component.
            named = finding if isinstance(error, PathError) else _about(entry, finding)
            # Extras are optional, so a component whose extra is not installed is not broken.
            yield replace(named, severity="warning") if isinstance(error, MissingExtraError) else named
        return
    for finding in _findings_about_object(entry, resolved.target):
        yield _about(entry, finding)
    if resolved.printed.strip():
        message = "its import writes to the standard output"
        notes = (
            f"output: {resolved.printed.strip().splitlines()[0]}",
            f"help: tell the authors of {entry.distribution}",
        )
        yield _about(entry, Diagnostic(config_codes.IMPORT_PRINTS, message, "warning", notes=notes))
    if resolved.changed:
        message = f"its import changes {listed(resolved.changed)}, which AudioZEN undoes"
        remedy = "help: make the change in a constructor, or in the hook `on_setup`"
        yield _about(entry, Diagnostic(codes.IMPORT_CHANGES, message, "warning", notes=(remedy,)))


def _findings_about_object(entry: Entry, target: Any) -> Iterator[Diagnostic]:
    """Yields the problems with an imported object."""
    if entry.kind == "commands":
        import click

        if not isinstance(target, click.Command):
            notes = ("help: name a function with the decorator `click.command` in the entry point",)
            yield Diagnostic(config_codes.WRONG_KIND, f"`{entry.value}` is not a click command", notes=notes)
        return
    if entry.kind == KIND:
        if not isinstance(target, type) or not is_dataclass(target):
            notes = ("help: name a class with the decorator `dataclasses.dataclass` in the entry point",)
            yield Diagnostic(config_codes.WRONG_KIND, f"`{entry.value}` is not a dataclass", notes=notes)
        return
    if entry.kind == HOOKSPECS:
        for message, remedy in spec_faults(target):
            yield Diagnostic(codes.HOOK, message, notes=(f"help: {remedy}",))
        return
    if wrong := check_kind(entry.kind, target):
        yield wrong
    if entry.kind == "hooks" and isinstance(target, type):
        yield from hook_findings(target)


def _about(entry: Entry, finding: Diagnostic) -> Diagnostic:
    return replace(finding, message=f"{entry.title}: {finding.message}")


def _send(channel: TextIO, findings: Iterable[Diagnostic]) -> None:
    # The finding is about an installed component, not about a TOML file, so its key path is left out.
    channel.write(json.dumps([asdict(replace(finding, span=None, place=())) for finding in findings]) + "\n")
    channel.flush()
