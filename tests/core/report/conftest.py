"""Fixtures: runs that were really trained and tested, and the page about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from audiozen_core.report.report import WrittenReport, write_report
from audiozen_core.testing.tiny import TinyExperiment, write_pairs

EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """The folder of the runs `slow`, `fast_seed_1` and `fast_seed_2`, and of `untested`, which has no test."""
    folder = tmp_path_factory.mktemp("runs")
    write_pairs(folder)
    for name, seed, rate, modes in (
        ("slow", 1, 1e-4, ("train", "test")),
        ("fast_seed_1", 1, 0.02, ("train", "test")),
        ("fast_seed_2", 2, 0.02, ("train", "test")),
        ("untested", 1, 0.01, ("train",)),
    ):
        tiny = TinyExperiment(folder).set("optimizer", lr=rate)
        tiny.values["meta"] |= {"id": name, "seed": seed}
        tiny.values["hooks"] = [{"path": "tensorboard", "enabled": False}]
        tiny.values["hooks"] += [{"path": "samples", "enabled": False}] * (name != "slow")
        tiny.run(*modes)
    return folder / "exp"


@dataclass(frozen=True)
class Page:
    """A page, as text and as a file."""

    text: str
    path: Path
    written: WrittenReport


@pytest.fixture(scope="session")
def page(runs, tmp_path_factory):
    """The page about all runs. The name of one system is HTML."""
    path = tmp_path_factory.mktemp("page") / "report.html"
    written = write_report(
        {"slow": runs / "slow", EVIL: [runs / "fast_seed_1", runs / "fast_seed_2"], "untested": runs / "untested"},
        path,
        files=2,
    )
    return Page(path.read_text(encoding="utf-8"), path, written)
