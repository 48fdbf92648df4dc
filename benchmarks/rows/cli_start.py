"""The start of the command line, beside `import click`, without which it can't print its help.

Each command is a process of its own. Its time is that of the CPU, user and system together.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.children import audiozen, child_seconds, python
from benchmarks.measuring import Goal, Row, compare

COMMANDS = {"audiozen --help": ("--help",), "audiozen plugins": ("plugins",)}


def rows(rounds: int = 41) -> list[Row]:
    """One row for each command."""
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
