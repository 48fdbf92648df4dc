"""Fixtures that create folders with modules and with package metadata."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from audiozen_core.registry.index import forget_installed

WriteFiles = Callable[..., Path]
AddDistribution = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> WriteFiles:
    """Writes modules into a folder: `write("a", {"nets/__init__": ""}, trainer="class Trainer: ...")`."""

    def write_modules(folder: str, packages: dict[str, str] | None = None, /, **modules: str) -> Path:
        for name, text in {**(packages or {}), **modules}.items():
            file = tmp_path / folder / f"{name}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(text), encoding="utf-8")
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        return tmp_path / folder

    return write_modules


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yields a folder on `sys.path`, like `site-packages`. Then removes its modules from `sys.modules`."""
    folder = tmp_path / "site"
    folder.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(folder))
    forget_installed()
    yield folder
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
    forget_installed()


@pytest.fixture
def distribution(site: Path) -> AddDistribution:
    """Installs the metadata of a distribution: `distribution("acme-losses", "1.0", loss_function={"sdr": "m:C"})`."""
    return lambda name, version, /, **groups: add_distribution(site, name, version, **groups)


def add_distribution(site: Path, name: str, version: str, /, **groups: dict[str, str]) -> Path:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nName: not-this\n", encoding="utf-8"
    )
    lines = []
    for group, entries in groups.items():
        lines += [f"[audiozen.{group}]", *(f"{key} = {value}" for key, value in entries.items()), ""]
    (folder / "entry_points.txt").write_text("\n".join(lines), encoding="utf-8")
    forget_installed()
    return folder
