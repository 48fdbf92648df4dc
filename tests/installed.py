"""Fixtures that install distributions for one test, as modules and metadata in a folder on `sys.path`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from audiozen_core.registry.index import forget_installed

Install = Callable[..., Path]


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yields a folder on `sys.path`. After the test, its modules are removed from `sys.modules`."""
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
def install(site: Path) -> Install:
    """Installs a distribution: `install("acme", {"acme": "class Loss: ..."}, loss_function={"sdr": "acme:Loss"})`."""

    def add(
        name: str, modules: dict[str, str], /, version: str = "1.0", requires: str = "", **groups: dict[str, str]
    ) -> Path:
        for module, text in modules.items():
            (site / f"{module}.py").write_text(dedent(text), encoding="utf-8")
        folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        needs = f"Requires-Dist: {requires}\n" if requires else ""
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}\n")
        lines = [
            line
            for group, entries in groups.items()
            for line in (f"[audiozen.{group}]", *(f"{key} = {value}" for key, value in entries.items()))
        ]
        (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")
        forget_installed()
        return folder

    return add


def install_a_hundred(install: Install) -> None:
    """Installs a hundred plugins. Three are broken in different ways, and two others have a name in common."""
    for number in range(95):
        module = f"plugin_{number}"
        install(
            f"acme-plugin-{number}",
            {module: "from torch import nn\nclass Loss(nn.L1Loss): ..."},
            loss_function={f"loss_{number}": f"{module}:Loss"},
        )
    install("acme-raises", {"acme_raises": "import no_such_thing"}, model={"raises": "acme_raises:Model"})
    install("acme-exits", {"acme_exits": "import sys\nsys.exit(3)"}, hooks={"progress_bar": "acme_exits:Bar"})
    install("acme-hangs", {"acme_hangs": "while True: pass"}, commands={"hangs": "acme_hangs:command"})
    for owner in ("left", "right"):
        install(f"acme-{owner}", {f"acme_{owner}": "class Sdr: ..."}, loss_function={"sdr": f"acme_{owner}:Sdr"})
