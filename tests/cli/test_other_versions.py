"""A plugin that was made for another version of AudioZEN is an error where it is used, and harms nobody else."""
# ruff: noqa: F811 - fixtures

import sys

import pytest

import audiozen_core
from tests.installed import install, site  # noqa: F401 - fixtures
from tests.tiny_experiment import TinyExperiment

PARTS = """
    import click
    from torch import nn
    from audiozen_core.hooks.marker import hookimpl

    class Loss(nn.MSELoss): ...

    class Announce:
        @hookimpl
        def on_run_start(self, trainer): ...

    command = click.Command("hello", callback=lambda: click.echo("hello"))
"""


def install_acme(install, requires):
    install(
        "acme",
        {"acme": PARTS},
        requires=requires,
        loss_function={"acme_loss": "acme:Loss"},
        hooks={"announce": "acme:Announce"},
        commands={"hello": "acme:command"},
    )


@pytest.mark.parametrize("command", ["run", "check", "hooks"])
@pytest.mark.parametrize(
    ("change", "line"),
    [
        (('path = "torch.nn.MSELoss"', 'path = "acme_loss"'), 'path = "acme_loss"'),
        (("[trainer]\n", '[[hooks]]\npath = "acme:announce"\n[trainer]\n'), 'path = "acme:announce"'),
    ],
)
def test_use_of_a_plugin_for_another_version_is_an_error_at_its_line(
    install, tmp_path, audiozen, command, change, line
):
    install_acme(install, "audiozen>=9")
    file = TinyExperiment(tmp_path).write(change)
    outcome = audiozen(command, str(file))
    assert outcome.code == 2
    version = audiozen_core.__version__
    assert f"error[AZ222]: acme 1.0 requires audiozen>=9; this is audiozen {version}" in outcome.err
    place = file.read_text().splitlines().index(line) + 1
    assert f"{file}:{place}:8" in outcome.err
    assert "help: pip install --upgrade acme, or pip install 'audiozen>=9'" in outcome.err
    assert "acme" not in sys.modules


def test_plugin_for_another_version_harms_nobody_who_does_not_use_it(install, tmp_path, audiozen):
    install_acme(install, "audiozen<0.1")
    assert audiozen("check", str(TinyExperiment(tmp_path).write())).code == 0
    assert audiozen("--help").code == 0
    assert "for audiozen<0.1" in audiozen("plugins", "hooks").out


def test_command_of_a_plugin_for_another_version_is_an_error(install, audiozen):
    install_acme(install, "audiozen>=9")
    outcome = audiozen("hello")
    assert outcome.code == 2
    assert "acme 1.0 requires audiozen>=9" in outcome.err


def test_plugin_for_this_version_is_used(install, tmp_path, audiozen):
    """The negative control."""
    install_acme(install, f"audiozen=={audiozen_core.__version__}")
    file = TinyExperiment(tmp_path).write(('path = "torch.nn.MSELoss"', 'path = "acme_loss"'))
    assert audiozen("check", str(file)).code == 0
    assert audiozen("hello").out == "hello\n"
