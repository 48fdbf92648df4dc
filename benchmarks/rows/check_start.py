"""`audiozen check` of a recipe, beside `import torch`; and of a file that nothing in it needs torch for.

Each command is a process of its own. Its time is that of the CPU, user and system together.
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
    """One row for each file. The check of the second one finds mistakes, so its process exits with 2."""
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
