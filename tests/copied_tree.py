"""A copy of the packages, for tests that change the code and look at what comes of it."""

import os
import shutil
from pathlib import Path

import audiozen_core

ROOT = Path(audiozen_core.__file__).parents[1]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("audiozen*/__init__.py"))


def copied_tree(folder: Path) -> Path:
    """Copies the packages into a folder, which `environment` then puts first on the import path."""
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def environment(root: Path) -> dict[str, str]:
    """The environment of a process that imports the packages from `root`."""
    return {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
