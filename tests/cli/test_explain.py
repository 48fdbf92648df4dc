import pytest

from audiozen_core.config.explain import effective_toml
from audiozen_core.config.load import load_config


@pytest.fixture
def child(project):
    (project / "child.toml").write_text('extends = "tiny.toml"\n[optimizer.args]\nlr = 0.5\n')
    return project / "child.toml"


def test_explain_shows_where_a_value_was_set_and_what_it_replaced(audiozen, child):
    output = audiozen("explain", "child.toml", "optimizer.args.lr", "--set", "optimizer.args.lr=0.7").out
    lines = [line.split() for line in output.splitlines()]
    assert lines[0] == ["optimizer.args.lr", "=", "0.7"]
    assert lines[1][:2] == ["set", "by"]
    assert lines[1][2].startswith("--set:")
    assert lines[2] == ["replaces", "0.5,", "set", "by", "child.toml:3:1"]
    assert lines[3][:2] == ["replaces", "0.001,"]
    assert lines[4] == ["default", "0.001"]
    assert "learning rate" in output


def test_explain_shows_default_and_documentation_of_an_unset_key(audiozen, child):
    output = audiozen("explain", "child.toml", "trainer.args.patience").out
    assert "is not set" in output
    assert "default   None" in output
    assert "without a better score" in output
    assert "the seed of every random number generator" in audiozen("explain", "child.toml", "meta.seed").out
    assert "A sigma-delta network" in audiozen("explain", "child.toml", "model.path").out


def test_explain_covers_components_inside_arguments(audiozen, project):
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


def test_explain_reports_a_path_that_cannot_be_resolved(audiozen, project):
    text = (project / "tiny.toml").read_text()
    (project / "tiny.toml").write_text(text.replace('"sdnn"', '"sdnnn"'))
    outcome = audiozen("explain", "tiny.toml", "model.args.hidden_size")
    assert outcome.code == 2
    assert "--> tiny.toml:18:8" in outcome.err
    assert "sdnn" in outcome.err


@pytest.mark.parametrize(
    ("key", "near"), [("optimizer.args.lrr", "optimizer.args.lr"), ("meta.sed", "meta.seed"), ("modell", "model")]
)
def test_explain_suggests_a_similar_key(audiozen, child, key, near):
    outcome = audiozen("explain", "child.toml", key)
    assert outcome.code == 2
    assert f"did you mean `{near}`?" in outcome.err


def test_explained_config_loads_again_and_marks_replaced_values(audiozen, child, project):
    text = audiozen("explain", "child.toml").out
    assert "lr = 0.5  # child.toml:3:1, was 0.001 in tiny.toml:30:1" in text
    assert "seed = 1\n" in text
    (project / "again.toml").write_text(text)
    assert load_config("again.toml", modes=()).composition.values == load_config("child.toml").composition.values
    assert effective_toml(load_config("tiny.toml")) == load_config("tiny.toml").config.text


def test_explain_prints_the_explanation_of_an_error_code(audiozen):
    assert audiozen("explain", "az144").out.startswith("AZ144: argument of the wrong type")
    unknown = audiozen("explain", "AZ999")
    assert unknown.code == 2
    assert "AZ101" in unknown.err


@pytest.mark.parametrize("key", ["optimizer.args.betas[1]", "optimizer.args.betas.1"])
def test_explain_takes_an_index_in_brackets_or_after_a_dot(audiozen, child, key):
    outcome = audiozen("explain", "child.toml", key, "--set", "+optimizer.args.betas=[0.9,0.99]")
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[0] == "optimizer.args.betas[1] = 0.99"
