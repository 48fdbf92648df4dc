"""A TOML file may require distributions, and a run's record says which ones it used."""
# ruff: noqa: F811 - fixtures

import shutil

import pytest

from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.diagnostics import codes, config_codes
from audiozen_core.errors import ConfigError
from audiozen_core.experiment.config_diff import compare_configs
from audiozen_core.registry.index import forget_installed
from audiozen_core.registry.switched_off import VARIABLE
from tests.installed import install, site  # noqa: F401 - fixtures
from tests.tiny_experiment import TinyExperiment

LOSS = "from torch import nn\nclass Loss(nn.MSELoss): ..."
USED = ('path = "torch.nn.MSELoss"', 'path = "acme_loss"')


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path)


@pytest.fixture
def acme(install):
    return install("audiozen-plugin-acme", {"acme": LOSS}, version="0.1.5", loss_function={"acme_loss": "acme:Loss"})


def findings(tiny, *requires):
    lines = "".join(f"  '{text}',\n" for text in requires)
    file = tiny.write(("[meta]\n", f"[meta]\nrequires = [\n{lines}]\n"))
    try:
        return check_config(load_config(file)).warnings
    except ConfigError as error:
        return error.diagnostics


# ------------------------------------------------------------------------------------------ requires


@pytest.mark.parametrize(
    "requirement",
    [
        "audiozen-plugin-acme",
        "Audiozen_Plugin.Acme >=0.1, <0.2",
        "audiozen-plugin-acme[extra]~=0.1.0",
        "audiozen>=0.1",
        "torch>=2",
    ],
)
def test_requirement_that_is_met_is_accepted_in_every_spelling(tiny, acme, requirement):
    assert findings(tiny, requirement) == ()


@pytest.mark.parametrize(
    ("requirement", "code", "message", "notes"),
    [
        (
            "audiozen-plugin-acme>=0.2",
            codes.UNMET_REQUIREMENT,
            "`audiozen-plugin-acme>=0.2` is required, but audiozen-plugin-acme 0.1.5 is installed",
            ("help: pip install 'audiozen-plugin-acme>=0.2'",),
        ),
        (
            "no-such-package>=0.2",
            codes.UNMET_REQUIREMENT,
            "`no-such-package` is required, but not installed",
            ("help: pip install 'no-such-package>=0.2'",),
        ),
        (
            "torch>=99",
            codes.UNMET_REQUIREMENT,
            "`torch>=99` is required, but torch",
            ("help: pip install 'torch>=99'",),
        ),
        ("acme >> 2", config_codes.BAD_VALUE, "`acme >> 2` is not a requirement: ", None),
        ("", config_codes.BAD_VALUE, "`` is not a requirement: ", None),
        ("acme @ https://example.org/a.whl", config_codes.BAD_VALUE, "can't have a URL", None),
        ('acme; python_version > "3"', config_codes.BAD_VALUE, "can't have a marker", None),
    ],
)
def test_requirement_that_is_not_met_is_an_error_at_its_line(tiny, acme, requirement, code, message, notes):
    (found,) = findings(tiny, "audiozen", requirement)
    assert (found.code, found.severity, found.span.line) == (code, "error", 4)
    assert message in found.message
    assert found.notes == (
        notes or ("help: write it as a name with versions, such as `audiozen-plugin-acme>=0.2,<0.3`",)
    )


def test_misspelt_requirement_suggests_an_installed_plugin(tiny, acme):
    (found,) = findings(tiny, "audiozen-plugin-acm")
    assert found.label == "did you mean `audiozen-plugin-acme`?"


def test_requirement_that_is_switched_off_is_an_error(tiny, acme, monkeypatch):
    monkeypatch.setenv(VARIABLE, "audiozen-plugin-acme")
    (found,) = findings(tiny, "audiozen-plugin-acme")
    assert found.code == codes.UNMET_REQUIREMENT
    assert (
        found.message
        == "`audiozen-plugin-acme` is required, but it is switched off (by `--without` or AUDIOZEN_WITHOUT)"
    )


def test_requires_of_another_type_is_reported_once(tiny):
    file = tiny.write(("[meta]\n", '[meta]\nrequires = "acme"\n'))
    with pytest.raises(ConfigError) as caught:
        check_config(load_config(file))
    assert [found.code for found in caught.value.diagnostics] == [config_codes.WRONG_TYPE]


def test_run_stops_at_a_requirement_and_a_later_requirement_does_not_count_as_drift(tiny, acme, audiozen):
    file = str(tiny.write(("[meta]\n", '[meta]\nrequires = ["audiozen-plugin-acme>=1"]\n')))
    outcome = audiozen("run", file)
    assert outcome.code == 2
    assert f"{file}:2:13" in outcome.err
    assert not (tiny.folder / "exp").exists()
    before, now = "[meta]\nseed = 1", "[meta]\nseed = 1\nrequires = ['acme']"
    (change,) = compare_configs(before, now, lambda section, path: None)
    assert not change.affects_training


# ------------------------------------------------------------------------------------------ after an uninstall


def test_after_an_uninstall_the_error_names_the_distribution_that_the_run_used(tiny, acme, audiozen):
    file = str(tiny.write(USED))
    assert audiozen("run", file).code == 0
    (record,) = (tiny.folder / "exp" / "tiny").glob("config__*.toml")
    assert "# plugins: `acme_loss` of audiozen-plugin-acme 0.1.5\n" in record.read_text()
    shutil.rmtree(acme)
    forget_installed()
    for toml in (file, str(record)):
        outcome = audiozen("run", toml, "--resume")
        assert outcome.code == 2
        assert "no loss function named `acme_loss` is installed" in outcome.err
        assert f"note: an earlier run used `acme_loss` of audiozen-plugin-acme 0.1.5: {record}" in outcome.err
        assert "help: pip install 'audiozen-plugin-acme==0.1.5'" in outcome.err
    other = audiozen("check", str(tiny.write(USED, name="never_run")))
    assert "an earlier run" not in other.err, "negative control"


def test_record_names_the_plugins_of_metrics_and_hooks_too(install, project, audiozen):
    code = """
        from audiozen_core.hooks.marker import hookimpl
        from audiozen_plugins.metric.si_sdr import SiSdr

        class Announce:
            @hookimpl
            def on_run_start(self, trainer): ...

        class Metric(SiSdr):
            name = "acme"
    """
    folder = install("acme", {"acme": code}, metric={"acme_sdr": "acme:Metric"}, hooks={"announce": "acme:Announce"})
    with (project / "tiny.toml").open("a") as file:
        file.write('[[hooks]]\npath = "acme:announce"\n')
    more = ["--set", 'trainer.args.metrics=["acme_sdr"]', "--set", "trainer.args.max_epochs=1"]
    assert audiozen("run", "tiny.toml", *more).code == 0
    (record,) = (project / "exp" / "tiny").glob("config__*.toml")
    assert "# plugins: `acme:announce` of acme 1.0, `acme_sdr` of acme 1.0\n" in record.read_text()
    shutil.rmtree(folder)
    forget_installed()
    outcome = audiozen("check", "tiny.toml", *more)
    assert outcome.code == 2
    assert outcome.err.count("help: pip install 'acme==1.0'") == 2, outcome.err
    off = audiozen("check", "tiny.toml", "--set", "hooks.0.enabled=false")
    assert "help: pip install 'acme==1.0'" in off.err
