import pytest

from audiozen_core.config.explain import effective_toml
from audiozen_core.config.load import load_config


@pytest.fixture
def child(project):
    (project / "child.toml").write_text('extends = "tiny.toml"\n[optimizer.args]\nlr = 0.5\n')
    return project / "child.toml"


def test_a_value_names_who_set_it_and_what_it_replaced(audiozen, child):
    said = audiozen("explain", "child.toml", "optimizer.args.lr", "--set", "optimizer.args.lr=0.7").out
    lines = [line.split() for line in said.splitlines()]
    assert lines[0] == ["optimizer.args.lr", "=", "0.7"]
    assert lines[1][:2] == ["set", "by"]
    assert lines[1][2].startswith("--set:")
    assert lines[2] == ["replaces", "0.5,", "set", "by", "child.toml:3:1"]
    assert lines[3][:2] == ["replaces", "0.001,"]
    assert lines[4] == ["default", "0.001"]
    assert "learning rate" in said


def test_a_key_that_is_not_set_has_its_default_and_its_documentation(audiozen, child):
    said = audiozen("explain", "child.toml", "trainer.args.patience").out
    assert "is not set" in said
    assert "default   None" in said
    assert "without a better score" in said
    assert "the seed of every random number generator" in audiozen("explain", "child.toml", "meta.seed").out
    assert "A sigma-delta network" in audiozen("explain", "child.toml", "model.path").out


@pytest.mark.parametrize(
    ("key", "near"), [("optimizer.args.lrr", "optimizer.args.lr"), ("meta.sed", "meta.seed"), ("modell", "model")]
)
def test_an_unknown_key_gets_a_suggestion(audiozen, child, key, near):
    outcome = audiozen("explain", "child.toml", key)
    assert outcome.code == 2
    assert f"did you mean `{near}`?" in outcome.err


def test_the_whole_config_reads_back_and_marks_what_was_replaced(audiozen, child, project):
    text = audiozen("explain", "child.toml").out
    assert "lr = 0.5  # child.toml:3:1, was 0.001 in tiny.toml:30:1" in text
    assert "seed = 1\n" in text
    (project / "again.toml").write_text(text)
    assert load_config("again.toml", modes=()).composition.values == load_config("child.toml").composition.values
    assert effective_toml(load_config("tiny.toml")) == load_config("tiny.toml").config.text


def test_a_code_is_explained(audiozen):
    assert audiozen("explain", "az144").out.startswith("AZ144: argument of the wrong type")
    unknown = audiozen("explain", "AZ999")
    assert unknown.code == 2
    assert "AZ101" in unknown.err
