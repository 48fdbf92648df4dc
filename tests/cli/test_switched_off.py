"""A plugin that is switched off is treated as not installed, for one command and for what this command starts."""
# ruff: noqa: F811 - fixtures

import json
import os

import pytest

from audiozen_core.cli.main import COMMANDS, cli
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.index import installed_index
from audiozen_core.registry.switched_off import VARIABLE
from tests.cli.test_plugins import COMMAND
from tests.installed import install, site  # noqa: F401 - fixtures
from tests.tiny_experiment import TinyExperiment

ACME = """
    from torch import nn
    from audiozen_core.hooks.marker import hookimpl

    class Loss(nn.MSELoss): ...

    class Announce:
        @hookimpl
        def on_run_start(self, trainer): ...
"""
USED = ('path = "torch.nn.MSELoss"', 'path = "acme_loss"')


@pytest.fixture
def acme(install):
    install(
        "Audiozen_Plugin.Acme",
        {"acme": ACME},
        loss_function={"acme_loss": "acme:Loss"},
        hooks={"announce": "acme:Announce"},
    )
    install("other", {"other": COMMAND}, commands={"shout": "other:echo"})


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path)


@pytest.mark.parametrize("spelling", ["audiozen-plugin-acme", "Audiozen_Plugin.Acme", "AUDIOZEN-plugin_acme"])
def test_any_spelling_of_the_distribution_switches_it_off_and_nothing_else(acme, monkeypatch, spelling):
    assert "acme_loss" in installed_index().names()
    monkeypatch.setenv(VARIABLE, f" {spelling} ,")
    assert {"acme_loss", "announce"}.isdisjoint(installed_index().names())
    assert {"shout", "sdnn"} <= set(installed_index().names())
    monkeypatch.setenv(VARIABLE, f"other,{spelling}")
    assert {entry.distribution for entry in installed_index()} == {"audiozen"}


@pytest.mark.parametrize("command", ["check", "run", "hooks"])
def test_config_that_uses_the_plugin_gets_an_error_that_says_it_is_off(acme, tiny, audiozen, command):
    file = str(tiny.write(USED))
    outcome = audiozen(command, file, "--without", "audiozen-plugin-acme")
    assert outcome.code == 2
    assert "no loss function named `acme_loss` is installed" in outcome.err
    note = (
        "note: the loss function `acme_loss` of audiozen-plugin-acme 1.0 is switched off (by `--without` or "
        "AUDIOZEN_WITHOUT"
    )
    assert note in outcome.err
    assert VARIABLE not in os.environ, "the option is for one command"
    assert audiozen("check", file).code == 0, "negative control"


def test_spelling_with_the_distribution_says_that_it_is_off(acme, monkeypatch):
    monkeypatch.setenv(VARIABLE, "audiozen-plugin-acme")
    with pytest.raises(PathError) as caught:
        installed_index().find("audiozen-plugin-acme:acme_loss", "loss_function")
    assert "is switched off" in str(caught.value)


def test_record_of_a_run_says_what_was_switched_off(acme, tiny, audiozen):
    for name, options in (("with", ()), ("off", ("--without", "other", "--without", "audiozen-plugin-acme"))):
        assert audiozen("run", str(tiny.write(name=name)), *options).code == 0
    records = {name: next((tiny.folder / "exp" / name).glob("config__*")).read_text() for name in ("with", "off")}
    assert "# without: audiozen-plugin-acme 1.0, other 1.0\n" in records["off"]
    assert "# without" not in records["with"]


def test_list_names_what_is_switched_off_and_doctor_does_not_import_it(acme, install, audiozen):
    install("broken", {"broken": "1 / 0"}, metric={"broken": "broken:M"})
    out = audiozen("plugins", "--without", "broken").out
    assert "broken:M" not in out
    assert out.endswith("\nswitched off: broken 1.0\n")
    assert audiozen("plugins", "show", "broken", "--without", "broken").code == 2
    assert audiozen("plugins", "doctor", "--without", "broken", "--without", "audiozen").code == 2
    rows = json.loads(audiozen("plugins", "doctor", "--without", "broken", "--json").out)
    assert not any("broken" in row["message"] for row in rows)


def test_command_of_a_plugin_that_is_switched_off_does_not_exist(acme, audiozen, monkeypatch):
    assert audiozen("shout", "a").out == "A\n"
    monkeypatch.setenv(VARIABLE, "other")
    outcome = audiozen("shout", "a")
    assert outcome.code == 2
    assert "the command `shout` of other 1.0 is switched off by AUDIOZEN_WITHOUT" in outcome.err
    assert "shout" not in audiozen("--help").out


@pytest.mark.parametrize(
    ("name", "help_text"),
    [
        ("audiozen-plugin-acm", "did you mean `audiozen-plugin-acme`?"),
        ("banana", "correct `--without` or AUDIOZEN_WITHOUT"),
        ("audiozen", "write `enabled = false`"),
    ],
)
def test_unknown_name_is_an_error(acme, tiny, audiozen, name, help_text):
    outcome = audiozen("check", str(tiny.write()), "--without", name)
    assert outcome.code == 2
    assert help_text in outcome.err


@pytest.mark.parametrize("options", [("--help",), (), ("run", "--help"), ("--version",), ("explain", "AZ209")])
def test_help_works_if_the_variable_names_a_plugin_that_is_no_longer_installed(acme, audiozen, monkeypatch, options):
    monkeypatch.setenv(VARIABLE, "gone")
    outcome = audiozen(*options)
    assert (outcome.code, outcome.err) == (0, "")
    if options in ((), ("--help",)):
        assert "run " in outcome.out
        text = " ".join(outcome.out.split())
        assert "not listed: `gone` can't be switched off" in text
        assert "correct `--without` or AUDIOZEN_WITHOUT" in text
    assert audiozen("plugins").code == 2, "negative control: elsewhere the wrong name is an error"


def test_completion_offers_the_own_commands_if_the_variable_is_wrong(acme, monkeypatch):
    assert "shout" in cli.list_commands(None)
    monkeypatch.setenv(VARIABLE, "gone")
    assert list(COMMANDS) == cli.list_commands(None)
