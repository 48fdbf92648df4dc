"""A plugin that uses a name of AudioZEN does not change the experiments that use this name."""
# ruff: noqa: F811 - fixtures

import pytest

from audiozen_core.diagnostics import codes
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.paths import resolve
from audiozen_plugins.metric.si_sdr import SiSdr
from audiozen_plugins.model.sdnn import SDNN
from tests.installed import install, site  # noqa: F401 - fixtures

ACME = """
    from torch import nn
    from audiozen_core.hooks.marker import hookimpl
    from audiozen_plugins.metric.si_sdr import SiSdr

    class Net(nn.Module): ...

    class Progress:
        @hookimpl
        def on_run_start(self, trainer): ...

    class Metric(SiSdr): ...
"""


@pytest.fixture
def acme(install):
    install(
        "acme",
        {"acme": ACME},
        model={"sdnn": "acme:Net"},
        hooks={"progress": "acme:Progress"},
        metric={"si_sdr": "acme:Metric"},
    )


def warnings_of(experiment):
    return [finding for finding in experiment.warnings if finding.code == codes.CLASH]


def test_name_alone_means_the_component_of_audiozen(acme):
    assert resolve("sdnn", section="model_g").target is SDNN
    assert resolve("si_sdr", section="metric").target is SiSdr
    assert resolve("acme:sdnn", section="model").target.__module__ == "acme"


def test_name_of_two_plugins_is_still_an_error_and_only_then(install, acme):
    install("left", {}, model={"net": "nowhere:A"}, metric={"si_sdr": "nowhere:C"})
    install("right", {}, model={"net": "nowhere:B"})
    with pytest.raises(PathError, match="`left:net` or `right:net`"):
        resolve("net", section="model")
    assert resolve("si_sdr", section="metric").target is SiSdr, "three distributions have it, one of them AudioZEN"


def test_check_warns_at_each_name_and_says_how_to_choose(acme, project):
    with (project / "tiny.toml").open("a") as file:
        file.write('[[hooks]]\npath = "progress"\n')
    lines = (project / "tiny.toml").read_text().splitlines()
    found = {lines[warning.span.line - 1]: warning for warning in warnings_of(Experiment.load("tiny.toml"))}
    assert set(found) == {'path = "sdnn"', 'metrics = ["si_sdr"]', 'path = "progress"'}
    model = found['path = "sdnn"']
    assert model.message == (
        "`sdnn` is ambiguous: the model `sdnn` of audiozen 0.1.0 is used, but this name also exists in acme 1.0"
    )
    assert model.notes == ("help: write `audiozen:sdnn` to keep this component, or `acme:sdnn`",)
    assert {warning.severity for warning in found.values()} == {"warning"}


@pytest.mark.parametrize("installed", [True, False])
def test_no_warning_without_a_choice_or_once_it_has_been_made(installed, request, project):
    if installed:
        request.getfixturevalue("acme")
        text = (project / "tiny.toml").read_text()
        text = text.replace('"sdnn"', '"audiozen:sdnn"').replace('["si_sdr"]', '["audiozen:si_sdr"]')
        (project / "tiny.toml").write_text(text + '[[hooks]]\npath = "audiozen:progress"\n')
    overrides = ["+trainer.args.score=audiozen:si_sdr"] if installed else []
    assert warnings_of(Experiment.load("tiny.toml", overrides=overrides)) == []


def test_run_uses_the_component_of_the_distribution_that_is_named(acme, project):
    experiment = Experiment.load("tiny.toml", overrides=["model.path=acme:sdnn", "+hooks=[{path='acme:progress'}]"])
    assert experiment.checked.components["model",].distribution == "acme"
    with experiment.scope:
        plugins = {plugin.name: plugin.distribution for plugin in experiment.lifecycle().plugins}
    assert plugins["progress"] == "audiozen"
    assert plugins["acme:progress"] == "acme"


def test_fixture_of_the_test_kit_runs_although_a_plugin_has_its_names(install, acme, tiny_experiment):
    install("other", {}, hooks={"tensorboard": "nowhere:Board"}, dataset={"noisy_clean_folders": "nowhere:Data"})
    tiny_experiment.set("trainer", max_epochs=1)
    assert tiny_experiment.run().checkpoints == ["epoch_0001"]


@pytest.mark.slow
def test_doctor_and_list_tell_the_author_how_the_component_is_reached(acme, install, audiozen):
    install("left", {}, model={"net": "acme:Net"})
    install("right", {}, model={"net": "acme:Net"})
    outcome = audiozen("plugins", "doctor", "acme")
    assert outcome.code == 0, outcome.out
    assert "warning[AZ204]: the model `sdnn` is published by audiozen 0.1.0 and acme 1.0" in outcome.out
    assert "help: `sdnn` alone means the one in audiozen; write `acme:sdnn` to use the other one" in outcome.out
    rows = {" ".join(line.split()) for line in audiozen("plugins", "model").out.splitlines()}
    assert "sdnn acme 1.0 third party write acme:sdnn acme:Net" in rows
    assert "sdnn audiozen 0.1.0 first party ok audiozen_plugins.model.sdnn:SDNN" in rows
    assert "net left 1.0 third party clash acme:Net" in rows, "negative control"
    assert audiozen("plugins", "doctor", "left").code == 1


def test_name_of_two_kinds_of_one_plugin_is_shown_with_its_kind(install, audiozen):
    install("both", {"both": ACME}, model={"mine": "both:Net"}, metric={"mine": "both:Metric"})
    outcome = audiozen("plugins", "show", "mine")
    assert outcome.code == 2
    assert "write `--kind metric` or `--kind model`" in outcome.err
    assert audiozen("plugins", "show", "mine", "--kind", "model").code == 0
