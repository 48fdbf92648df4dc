"""Builds the wheels of the example plugins and installs them for one test, without pip."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.clean_environment import build_wheel

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PLUGINS = sorted(path.name.removeprefix("audiozen-plugin-") for path in EXAMPLES.iterdir())


def project(name: str) -> Path:
    """Returns the folder of an example plugin."""
    return EXAMPLES / f"audiozen-plugin-{name}"


def unpack_wheel(name: str, folder: Path) -> Path:
    """Builds the wheel of an example plugin, and unpacks it into a folder of its own, which it returns.

    A wheel without scripts and compiled code is a zip file of what pip would install.
    """
    site = folder / "site"
    with zipfile.ZipFile(build_wheel(project(name), folder / "dist")) as wheel:
        wheel.extractall(site)
    return site


@contextmanager
def importable(site: Path) -> Iterator[None]:
    """Puts a folder on the import path. Removes the modules that come from it, or from beside it, at the end."""
    sys.path.insert(0, str(site))
    try:
        yield
    finally:
        sys.path.remove(str(site))
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", "")).startswith(str(site.parent)):
                del sys.modules[name]


def copy_tests(name: str, folder: Path) -> Path:
    """Copies the tests and the README of an example plugin, so that they can't import its sources."""
    for part in ("tests", "README.md"):
        source = project(name) / part
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / part)
    return folder / "tests"
