"""Compares commands of AudioZEN with and without installed plugins.

A hundred working plugins are installed, and all broken plugins of the tests. Each command runs in its own process. Its
CPU time is measured (user and system time together).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.children import audiozen, child_seconds
from benchmarks.measuring import Goal, Row, compare
from tests.bad_plugins import install_all  # the plugins are those of the tests


def rows(rounds: int = 31) -> list[Row]:
    """Measures one row for each command."""
    with tempfile.TemporaryDirectory() as temporary:
        folder, site = Path(temporary), Path(temporary) / "site"
        site.mkdir()
        install_all(site)
        return [
            compare(
                f"start of audiozen {argument} with 100 plugins installed",
                lambda argument=argument: child_seconds(audiozen(argument), folder, sites=[site]),
                {"without": lambda argument=argument: child_seconds(audiozen(argument), folder)},
                unit="ms of CPU",
                scale=1000,
                goal=Goal("at most", 10, "difference"),
                rounds=rounds,
            )
            for argument in ("--help", "plugins")
        ]
