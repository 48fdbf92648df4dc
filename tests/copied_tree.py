"""A copy of the packages, for tests that change the code and run it."""

import os
import shutil
from pathlib import Path

import audiozen_core

ROOT = Path(audiozen_core.__file__).parents[1]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("audiozen*/__init__.py"))


def copied_tree(folder: Path) -> Path:
    """Copies the packages into a folder, and returns the folder. Pass it to `environment` to import from there."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def environment(root: Path) -> dict[str, str]:
    """Returns the environment of a process that imports the packages from `root`."""
    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
