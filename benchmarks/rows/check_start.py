"""Compares `audiozen check` with a bare `import torch`, for two TOML files.

The first file is a recipe. The second file has mistakes that can be found without importing torch. Each command runs in
its own process. Its CPU time is measured (user and system time together).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.children import REPOSITORY, audiozen, child_seconds, python
from benchmarks.measuring import Goal, Row, compare

RECIPE = REPOSITORY / "recipes/mini_denoise/gtcrn/baseline.toml"
WITHOUT_TORCH = """[meta]
save_dir = "exp"
seed = "one"

[trainor]
path = "enhancement"
"""


def rows(rounds: int = 5) -> list[Row]:
    """Measures one row for each file. The second file has mistakes, so the exit code of its check is 2."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wrong = folder / "wrong.toml"
        wrong.write_text(WITHOUT_TORCH, encoding="utf-8")
        return [
            compare(
                "audiozen check, start to end, a recipe",
                lambda: child_seconds(audiozen("check", str(RECIPE)), folder),
                {"import torch": lambda: child_seconds(python("import torch"), folder)},
                unit="ms of CPU",
                scale=1000,
                goal=Goal("at most", 150, "difference"),
                rounds=rounds,
            ),
            compare(
                "audiozen check, mistakes that need no torch",
                lambda: child_seconds(audiozen("check", str(wrong)), folder, code=2),
                {"import torch": lambda: child_seconds(python("import torch"), folder)},
                unit="ms of CPU",
                scale=1000,
                goal=Goal("at most", 0.25),
                rounds=rounds,
            ),
        ]
