"""Many bad plugins and a hundred good ones: none disturbs an experiment that uses none, and each is diagnosed."""
# ruff: noqa: F811 - fixtures

import json
import os
import sys

import pytest

from audiozen_core.registry.index import forget_installed, installed_index
from audiozen_core.registry.process_state import read_process_state, restore_process_state
from tests.bad_plugins import BAD, install_all, install_bad
from tests.cli.conftest import audiozen  # noqa: F401 - fixtures
from tests.installed import site  # noqa: F401 - fixtures
from tests.measured import without_measured
from tests.tiny_experiment import TOML, TinyExperiment

ROUTINE = ("--help", "plugins", "check", "hooks")


@pytest.fixture(autouse=True)
def _restored():
    before = read_process_state()
    yield
    restore_process_state(before)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    (tmp_path / "experiment").mkdir()
    monkeypatch.chdir(tmp_path / "experiment")
    return TinyExperiment(tmp_path / "experiment")


def _installed(site, *plugins):
    for plugin in plugins:
        install_bad(site, plugin)
    forget_installed()


def _weights_and_metrics(tiny, name):
    lines = (tiny.folder / f"exp/{name}/metrics.jsonl").read_text().splitlines()
    return tiny.state(name)["model"], [without_measured(json.loads(line)) for line in lines]


def test_all_plugins_together_leave_an_experiment_that_uses_none_unharmed(site, tiny, audiozen):
    tiny.write()
    alone = {command: audiozen(command, *["tiny.toml"] * (command in ("check", "hooks"))) for command in ROUTINE}
    tiny.run(name="alone")
    install_all(site)
    forget_installed()
    together = {command: audiozen(command, *["tiny.toml"] * (command in ("check", "hooks"))) for command in ROUTINE}
    tiny.run(name="together")
    assert len(installed_index()) > 180
    assert all(outcome.code == 0 for outcome in together.values())
    for command in ("check", "hooks"):
        assert together[command] == alone[command], command
    assert together["--help"].out.startswith(alone["--help"].out.rstrip())
    missing = {line.split()[0] for line in alone["plugins"].out.splitlines()} - {
        line.split()[0] for line in together["plugins"].out.splitlines() if line
    }
    assert not missing
    (weights, metrics), (others, of_others) = (_weights_and_metrics(tiny, name) for name in ("alone", "together"))
    assert weights.keys() == others.keys()
    assert all(weights[name].equal(others[name]) for name in weights)
    assert metrics == of_others
    assert metrics
    assert not any(name.startswith(("acme", "good")) for name in sys.modules)


def test_doctor_names_each_bad_plugin_with_its_fault_and_no_good_one(site, audiozen):
    install_all(site, good=10)
    forget_installed()
    found = json.loads(audiozen("plugins", "doctor", "--json").out)
    texts = ["\n".join([finding["message"], *finding["notes"]]) for finding in found]
    assert not any("good-" in text for text in texts)
    for plugin in BAD:
        own = "\n".join(text for text in texts if plugin.distribution in text or plugin.module in text)
        if plugin.doctor is None:
            assert not own, plugin.name
        else:
            assert plugin.doctor in own, plugin.name


USED = [plugin for plugin in BAD if plugin.use and plugin.check is not None]


@pytest.mark.parametrize("plugin", USED, ids=lambda plugin: plugin.name)
def test_check_names_the_distribution_and_the_line_of_a_bad_plugin(site, tiny, audiozen, plugin):
    _installed(site, *(other for other in BAD if other.name in (plugin.name, plugin.beside)))
    tiny.write(text=plugin.text(TOML))
    outcome = audiozen("check", "tiny.toml")
    assert outcome.code == (0 if plugin.only_warned else 2), outcome
    assert plugin.check in outcome.err
    assert plugin.distribution in outcome.err
    assert "tiny.toml:" in outcome.err or f"{plugin.module}.py:" in outcome.err


RUN = [plugin for plugin in BAD if plugin.use and plugin.check is None]


@pytest.mark.parametrize("plugin", RUN, ids=lambda plugin: plugin.name)
def test_run_names_the_distribution_and_the_line_of_what_only_a_run_can_find(site, tiny, audiozen, plugin):
    _installed(site, plugin)
    tiny.write(text=plugin.text(TOML))
    assert audiozen("check", "tiny.toml").code == 0
    outcome = audiozen("run", "tiny.toml")
    if plugin.run is None:
        assert outcome.code == 0, outcome
        return
    assert outcome.code == 2, outcome
    assert plugin.run in outcome.err
    if plugin.named:
        assert plugin.distribution in outcome.err
        assert "tiny.toml:" in outcome.err or f"{plugin.module}.py:" in outcome.err


COMMANDS = [plugin for plugin in BAD if plugin.command]


@pytest.mark.parametrize("plugin", COMMANDS, ids=lambda plugin: plugin.name)
def test_bad_command_is_an_error_that_names_its_distribution(site, audiozen, plugin):
    _installed(site, plugin)
    outcome = audiozen(plugin.command)
    assert outcome.code == 2
    assert plugin.run in outcome.err
    assert plugin.distribution in outcome.err


@pytest.mark.parametrize(("lines", "loaded"), [(b"nonsense\n", "0"), (b"x = acme:Net\n", None)])
def test_torch_is_imported_although_other_entry_points_cannot_be_read(site, tiny, monkeypatch, lines, loaded):
    from audiozen_core.registry.torch_backends import VARIABLE, protect_torch

    monkeypatch.setenv(VARIABLE, "")
    del os.environ[VARIABLE]
    folder = site / "acme-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: acme\n")
    (folder / "entry_points.txt").write_bytes(b"[audiozen.model]\n" + lines)
    forget_installed()
    protect_torch(installed_index())
    assert os.environ.get(VARIABLE) == loaded
