"""Overrides as values by their keys, which Python code passes, are checked like those of the command line."""

from pathlib import Path

import pytest

from audiozen_core.errors import ConfigError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.testing.tiny import TinyExperiment


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return TinyExperiment(tmp_path_factory.mktemp("tiny")).write()


def test_values_keep_their_types(file):
    overrides = {
        "optimizer.args.lr": 3e-4,
        "+trainer.args.save_max_score": True,
        "+optimizer.args.betas": (0.8, 0.9),
        "meta.save_dir": Path("other") / "a=b ${c}",
        "trainer.args.metrics": ["si_sdr", {"path": "stoi", "args": {"extended": True}}],
    }
    config = Experiment.load(file, overrides=overrides).config
    assert config.components["optimizer"][""].args == {"lr": 3e-4, "betas": [0.8, 0.9]}
    assert config.trainer.args["save_max_score"] is True
    assert config.trainer.args["metrics"][1] == {"path": "stoi", "args": {"extended": True}}
    assert str(config.meta.save_dir) == "other/a=b ${c}"


def test_quoted_key_may_contain_an_equals_sign(file):
    overrides = {'+optimizer.args."a=b"': 1}
    with pytest.raises(ConfigError, match="a=b") as caught:
        Experiment.load(file, overrides=overrides)
    assert "has no valid key" not in str(caught.value), "Adam has no such argument, but the key is read"


def test_string_is_a_string_even_if_it_looks_like_a_number(file):
    with pytest.raises(ConfigError, match="lr"):
        Experiment.load(file, overrides={"optimizer.args.lr": "3e-4"})
    Experiment.load(file, overrides=["optimizer.args.lr=3e-4"])  # negative control: as text, it is read as TOML


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"optimizer.args.lr": None}, "override of `optimizer.args.lr` can't be written as TOML: .* type NoneType"),
        ({"optimizer.args.lr": object()}, "type object"),
        ({"optimiser.args.lr": 0.1}, "`optimiser` does not exist"),
        ({"": 0.1}, "has no valid key"),
        ({"optimizer.args.lr=1": 0.1}, "has no valid key: 'optimizer.args.lr=1'"),
        ({"+optimizer.args.lr\n": 0.1}, "has no valid key"),
        ("optimizer.args.lr=0.1", "`overrides` is a string, not a list"),
        ({"trainer.args.max_epochs": 0}, "at least 1"),
    ],
)
def test_mistakes_are_reported_like_those_of_the_command_line(file, overrides, message):
    with pytest.raises(ConfigError, match=message):
        Experiment.load(file, overrides=overrides)
