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


def test_a_component_within_arguments_is_explained_like_any_other(audiozen, project):
    (project / "nested.toml").write_text(
        'extends = "tiny.toml"\n[model]\npath = "model.Net"\n[model.args.encoder]\npath = "torch.nn.Linear"\n'
        "args = {in_features = 2, out_features = 3, bais = true}\n"
        '[dataset.dataloader.sampler]\npath = "torch.utils.data.RandomSampler"\n'
        '[[hooks]]\npath = "tensorboard"\nenabled = false\n'
    )
    (project / "model.py").write_text("from torch import nn\nclass Net(nn.Module):\n    'A net.'\n    encoder = None\n")
    assert "default   true" in audiozen("explain", "nested.toml", "model.args.encoder.args.bias").out
    assert "what for  Applies an affine" in audiozen("explain", "nested.toml", "model.args.encoder.path").out
    assert "default   false" in audiozen("explain", "nested.toml", "dataset.dataloader.sampler.args.replacement").out
    assert "here: Writes every recorded scalar" in audiozen("explain", "nested.toml", "hooks[0].path").out
    assert audiozen("explain", "nested.toml", "model.args.decoder.args.bias").code == 2


def test_a_key_of_a_component_that_is_not_there_names_the_mistake_and_its_place(audiozen, project):
    text = (project / "tiny.toml").read_text()
    (project / "tiny.toml").write_text(text.replace('"sdnn"', '"sdnnn"'))
    outcome = audiozen("explain", "tiny.toml", "model.args.hidden_size")
    assert outcome.code == 2
    assert "--> tiny.toml:18:8" in outcome.err
    assert "sdnn" in outcome.err


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
