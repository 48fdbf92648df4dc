"""Compares commands of AudioZEN with `import click`, which every command needs.

Each command runs in its own process. Its CPU time is measured (user and system time together).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.children import audiozen, child_seconds, python
from benchmarks.measuring import Goal, Row, compare

COMMANDS = {"audiozen --help": ("--help",), "audiozen plugins": ("plugins",)}


def rows(rounds: int = 41) -> list[Row]:
    """Measures one row for each command."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        return [
            compare(
                f"start to end of {what}",
                lambda arguments=arguments: child_seconds(audiozen(*arguments), folder),
                {"import click": lambda: child_seconds(python("import click"), folder)},
                unit="ms of CPU",
                scale=1000,
                goal=Goal("at most", 35, "difference"),
                rounds=rounds,
            )
            for what, arguments in COMMANDS.items()
        ]
