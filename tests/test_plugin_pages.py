"""The steps in the pages for authors of hooks and plugins are carried out."""

import sys
from pathlib import Path

import pytest

from audiozen_core.cli.main import main
from audiozen_core.kinds import GROUPS
from audiozen_core.testing.tiny import TinyExperiment
from tests.test_docs import REPOSITORY, audiozen_lines, blocks

HOOKS = REPOSITORY / "docs" / "write_a_hook.md"
PUBLISH = REPOSITORY / "docs" / "publish_a_component.md"


def follow(page, monkeypatch):
    """Saves the files that a page shows, and runs its commands."""
    for block in blocks(page):
        kind, _, name = (block["what"] or "").partition(": ")
        if kind == "file":
            Path(name).write_text(block["text"], encoding="utf-8")
        elif kind == "run":
            for arguments in audiozen_lines(block["text"]):
                monkeypatch.setattr(sys, "argv", ["audiozen", *arguments])
                with pytest.raises(SystemExit) as stop:
                    main()
                assert not stop.value.code, arguments


def examples_of(page):
    """Returns the test functions that a page shows."""
    names = {}
    for block in blocks(page):
        if block["language"] == "python" and "def test_" in block["text"]:
            exec(block["text"], names)
    return {name: value for name, value in names.items() if name.startswith("test_")}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Yields a working directory. Then removes the modules that were imported from it."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def test_hook_from_the_page_runs_and_passes_its_tests(here, monkeypatch, tmp_path_factory, capsys):
    TinyExperiment(here).write()
    follow(HOOKS, monkeypatch)
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["hooks.Warmup", "gradient", "hooks", "hooked.toml:3"] in rows
    monkeypatch.syspath_prepend(str(here))
    tests = examples_of(HOOKS)
    tests["test_warmup_implements_two_hooks"]()
    tests["test_warmup_runs_at_each_step"](TinyExperiment(tmp_path_factory.mktemp("tiny")))


def test_plugin_from_the_page_passes_its_tests(here, monkeypatch):
    follow(PUBLISH, monkeypatch)
    monkeypatch.syspath_prepend(str(here / "audiozen-plugin-acme" / "src"))
    tests = examples_of(PUBLISH)
    assert set(tests) == {"test_model", "test_loss"}
    for test in tests.values():
        test()


def test_page_lists_every_entry_point_group_and_every_check():
    import audiozen.testing

    text = PUBLISH.read_text(encoding="utf-8")
    for kind in GROUPS:
        assert f"`audiozen.{kind}`" in text, kind
    for name in audiozen.testing.__all__:
        if name.startswith("check_"):
            assert f"| `{name}(" in text, name
