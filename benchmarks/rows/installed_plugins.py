"""Compares commands of AudioZEN with and without installed plugins.

A hundred working plugins are installed, and all broken plugins of the tests. Each command runs in its own process. Its
CPU time is measured (user and system time together). A further row compares what the plugins add to a command with
what they add to a program that only reads their entry points and their headers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from benchmarks.children import audiozen, child_seconds, python
from benchmarks.measuring import Goal, Row, alternate, row_of
from tests.bad_plugins import install_all  # the plugins are those of the tests

READING = """
import contextlib
import sys
from audiozen_core.registry.installed import metadata_folders, read_metadata
for folder in metadata_folders(sys.path):
    for name in ("entry_points.txt", "METADATA"):
        with contextlib.suppress(UnicodeDecodeError):  # of a broken plugin
            read_metadata(folder, name)
"""


def rows(rounds: int = 31) -> list[Row]:
    """Measures one row for each command, and the bound."""
    commands = {"--help": audiozen("--help"), "plugins": audiozen("plugins"), "reading": python(READING)}
    with tempfile.TemporaryDirectory() as temporary:
        folder, site = Path(temporary), Path(temporary) / "site"
        site.mkdir()
        install_all(site)

        def costs(command: Sequence[str]) -> tuple[list[float], list[float]]:
            """Returns the CPU times with and without the plugins."""
            run = partial(child_seconds, command, folder)
            having, others = alternate(partial(run, sites=[site]), {"without": run}, rounds=rounds)
            return having, others["without"]

        measured = {name: costs(command) for name, command in commands.items()}

    def added(name: str) -> list[float]:
        return [more - less for more, less in zip(*measured[name], strict=True)]

    def row(what: str, ours: list[float], name: str, peer: list[float], goal: Goal | None) -> Row:
        return row_of(what, ours, name, peer, unit="ms of CPU", scale=1000, goal=goal)

    def start(name: str) -> Row:
        having, without = measured[name]
        what = f"start of audiozen {name} with 100 plugins installed"
        return row(what, having, "without", without, Goal("at most", 10, "difference"))

    what = "what 100 plugins add to audiozen plugins"
    bound = row(what, added("plugins"), "to reading the same metadata", added("reading"), None)
    return [start("--help"), start("plugins"), bound]
