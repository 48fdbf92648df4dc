"""A training starts from the weights that `[model.init]` names; a resume, a test and a bad file do not."""

import hashlib
import os
import shutil

import pytest
import torch
from safetensors.torch import save_file

from audiozen_core.config.toml.emit import emit
from audiozen_core.errors import AudioZenError, CheckpointError, ConfigError
from audiozen_core.experiment.dry_run import dry_run
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.initial_weights import renamed
from tests.core.checkpoint.exactness import difference
from tests.on_ranks import Failed, on_ranks
from tests.tiny_experiment import TOML, TinyExperiment

PARTS = """
class Net(nn.Module):
    def __init__(self, outputs: int = 1):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.head = nn.Linear(4, outputs)

    def forward(self, x):
        return self.head(self.encoder(x))
"""
NET = ('path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}', 'path = "parts.Net"')
TWO = ('path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}', 'path = "parts.Net"\nargs.outputs = 2')
STILL = ('"torch.optim.Adam"\nargs.lr = 0.1', '"torch.optim.SGD"\nargs.lr = 0.0')


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return TinyExperiment(tmp_path, PARTS)


@pytest.fixture
def weights(tiny):
    """Weights that no network is built with; they are also in the file `net.safetensors`."""
    trainer, _ = tiny.build(NET)
    found = {
        name: torch.rand(value.shape) + 3 if value.is_floating_point() else torch.tensor(7)
        for name, value in trainer.model.state_dict().items()
    }
    save_file(found, "net.safetensors")
    return found


def init(**keys):
    return "[loss_function]", emit({"x": keys}).replace("[x", "[model.init") + "\n[loss_function]"


def built(tiny, *changes, net=NET):
    trainer, _ = tiny.build(net, *changes)
    return dict(trainer.model.state_dict())


def same(state, weights):
    return {name for name, value in weights.items() if name in state and torch.equal(state[name], value)}


def test_training_starts_from_a_file_and_records_it_with_its_hash(tiny, weights, capsys):
    state = tiny.run(NET, STILL, init(path="net.safetensors"))["model"]
    assert same(state, weights) >= {"encoder.0.weight", "encoder.0.bias", "head.weight", "head.bias"}
    digest = hashlib.sha256((tiny.folder / "net.safetensors").read_bytes()).hexdigest()
    (record,) = (tiny.folder / "exp/tiny").glob("config__*.toml")
    line = f"# model.init: {tiny.folder.resolve()}/net.safetensors, sha256 {digest}"
    assert line in record.read_text()
    log = (tiny.folder / "exp/tiny/tiny.log").read_text()
    assert digest in log
    assert "9 (7 in encoder, 2 in head)" in log
    assert same(tiny.run(NET, STILL, name="plain")["model"], weights) == set()


@pytest.mark.parametrize("path", ["exp/base", "exp/base/checkpoints/best", "exp/base/checkpoints/epoch_0002"])
def test_training_starts_from_a_run_or_a_checkpoint(tiny, path):
    base = tiny.run(NET, name="base")["model"]
    state = built(tiny, init(path=path))
    assert difference(dict(state), dict(base)) is None


def test_run_without_a_best_checkpoint_gives_its_latest(tiny):
    plain = TOML.split("[validate_dataset]")[0]
    base = tiny.run(NET, text=plain, name="base")["model"]
    assert not (tiny.folder / "exp/base/checkpoints/best").exists()
    assert difference(built(tiny, init(path="exp/base")), dict(base)) is None


def test_owner_chooses_a_network_and_is_found_if_there_is_only_one(tiny, weights):
    text = TOML.replace("[model]", "[model_g]").replace("[optimizer]", "[optimizer_g]")
    text = text.replace("self.model(", 'self.models["g"](')
    (tiny.folder / "parts.py").write_text(
        (tiny.folder / "parts.py").read_text().replace("self.model(", "(self.models.get('g') or self.model)(")
    )
    base = tiny.run(NET, text=text, name="base")
    assert "model" not in base
    assert difference(built(tiny, init(path="exp/base")), dict(base["model_g"])) is None
    assert difference(built(tiny, init(path="exp/base", owner="model_g")), dict(base["model_g"])) is None
    for owner, message in (("model_x", "no state of `model_x`"), ("optimizer_g", "does not consist of weights")):
        with pytest.raises(CheckpointError, match=message):
            tiny.build(NET, init(path="exp/base", owner=owner))
    with pytest.raises(CheckpointError, match="`owner` has no meaning"):
        tiny.build(NET, init(path="net.safetensors", owner="model"))


def test_changed_last_layer_is_one_line(tiny, weights):
    with pytest.raises(CheckpointError) as error:
        tiny.build(TWO, init(path="net.safetensors"))
    assert any("head.weight" in note and "[1, 4] and [2, 4]" in note for note in error.value.notes)
    assert 'exclude = ["head.*"]' in error.value.remedy
    fresh = built(tiny, net=TWO)
    state = built(tiny, init(path="net.safetensors", exclude="head.*"), net=TWO)
    assert same(state, weights) == {name for name in weights if name.startswith("encoder")}
    assert same(state, fresh) == {"head.weight", "head.bias"}


def test_what_is_not_strict_loads_what_fits_and_says_what_does_not(tiny, weights):
    del weights["encoder.0.bias"]
    save_file({**weights, "old.weight": torch.zeros(1)}, "net.safetensors")
    path = tiny.write(TWO, init(path="net.safetensors", strict=False))
    facts = {name.strip(): fact for name, fact in dry_run(Experiment.load(path)).items()}
    assert facts["loaded"] == "6 (6 in encoder)"
    assert facts["missing"] == "1 (encoder.0.bias)"
    assert facts["other_shape"] == "2 (head.weight [1, 4] instead of [2, 4], head.bias [1] instead of [2])"
    assert facts["unused"] == "1 (old.weight)"
    assert "sha256" in facts["model.init"]
    save_file({"other": torch.zeros(1)}, "net.safetensors")
    with pytest.raises(CheckpointError, match="do not fit"):
        built(tiny, init(path="net.safetensors", strict=False))


def test_map_and_prefix_rename_tensors(tiny, weights):
    moved = {
        f"gen.{name}".replace("encoder.0", "enc.lin").replace("encoder.1", "enc.bn"): value
        for name, value in weights.items()
    }
    save_file({**moved, "disc.weight": torch.zeros(1)}, "net.safetensors")
    names = {"enc.lin": "encoder.0", "enc.bn": "encoder.1"}
    assert same(built(tiny, init(path="net.safetensors", prefix="gen", map=names)), weights) == set(weights)


def test_prefixes_of_wrappers_in_a_file_do_not_matter(tiny, weights):
    save_file({f"module._orig_mod.{name}": value for name, value in weights.items()}, "net.safetensors")
    assert same(built(tiny, init(path="net.safetensors")), weights) == set(weights)
    save_file(
        {**{f"module.{name}": value for name, value in weights.items()}, "head.bias": torch.zeros(1)}, "net.safetensors"
    )
    with pytest.raises(CheckpointError, match="are the same weight"):
        built(tiny, init(path="net.safetensors"))


NAMES = {"enc.0.weight": 1, "enc.1.weight": 2, "head": 3}


@pytest.mark.parametrize(
    ("prefix", "names", "expected"),
    [
        ("", {"enc": ""}, {"0.weight": 1, "1.weight": 2, "head": 3}),
        ("", {"": "net"}, {"net.enc.0.weight": 1, "net.enc.1.weight": 2, "net.head": 3}),
        ("", {"enc.": "a.b.", "head": "tail"}, {"a.b.0.weight": 1, "a.b.1.weight": 2, "tail": 3}),
        ("enc.", {"0": "1", "1": "0"}, {"1.weight": 1, "0.weight": 2}),
    ],
)
def test_renamed(prefix, names, expected):
    assert renamed(NAMES, prefix, names) == expected


@pytest.mark.parametrize(
    ("prefix", "names", "message", "remedy"),
    [
        ("", {"encoder": "x"}, "`map` has `encoder`, but no tensor name begins", "the names begin with enc, head"),
        ("", {"en": "x"}, "`map` has `en`, but no tensor", "similar names: enc"),
        (
            "",
            {"enc": "x", "enc.0": "y"},
            "two names for the tensor `enc.0.weight`: `enc` and `enc.0`",
            "no name in `map` begins",
        ),
        ("", {"enc.0": "enc.1"}, "two tensors the name `enc.1.weight`: `enc.0.weight` and `enc.1.weight`", "only one"),
        ("encc", {}, "`prefix` is `encc`, but no tensor name begins with it", "similar names: enc"),
    ],
)
def test_name_that_hits_nothing_or_twice_is_an_error(prefix, names, message, remedy):
    with pytest.raises(CheckpointError) as error:
        renamed(NAMES, prefix, names)
    assert message in error.value.message
    assert remedy in error.value.remedy


def files(folder):
    return sorted(str(path) for path in folder.rglob("*") if "pycache" not in str(path))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"path": "none.safetensors"}, "none.safetensors does not exist"),
        ({"path": "text.safetensors"}, "can't be used"),
        ({"path": "text.bin"}, "audiozen convert"),
        ({"path": "weights.tar"}, "audiozen convert"),
        ({"path": "parts.py"}, "neither the folder of a checkpoint nor"),
        ({"path": "empty"}, "neither a run folder nor a checkpoint"),
        ({"path": "linear.safetensors"}, "do not fit [model]"),
        ({"path": "net.safetensors", "exclude": ["hed.*"]}, "`hed.*` of `exclude` matches no weight"),
        ({"path": "net.safetensors", "map": {"enc": "x"}}, "no tensor name begins with it"),
    ],
)
def test_source_that_does_not_fit_is_one_error_before_the_training_and_nothing_is_written(tiny, weights, keys, message):
    (tiny.folder / "text.safetensors").write_text("hello, this is not a checkpoint")
    (tiny.folder / "text.bin").write_text("hello")
    (tiny.folder / "empty").mkdir()
    torch.save(weights, "weights.tar")
    save_file({"weight": torch.zeros(1, 4), "bias": torch.zeros(1)}, "linear.safetensors")
    path = tiny.write(NET, init(**keys))
    (tiny.folder / "__pycache__").mkdir(exist_ok=True)
    before = files(tiny.folder)
    with pytest.raises(AudioZenError) as error:
        Experiment.load(path).run()
    assert message in f"{error.value.message} {error.value.remedy}"
    assert any("named in: " in note and "tiny.toml:" in note for note in error.value.notes)
    assert [name for name in files(tiny.folder) if "/exp" not in name] == before
    assert not any((tiny.folder / "exp").rglob("*"))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "has no `path`"),
        ({"path": "a", "map": {"a": 1}}, "`model.init.map.a`"),
        ({"path": "a", "stict": True}, "`stict`"),
    ],
)
def test_wrong_keys_are_found_without_building(tiny, keys, message):
    with pytest.raises(ConfigError) as error:
        Experiment.load(tiny.write(NET, init(**keys)))
    assert message in error.value.diagnostics[0].message


def test_weights_are_loaded_once_and_never_on_resume_or_in_a_test(tiny, weights):
    longer = ("max_epochs = 2", "max_epochs = 4")
    table = init(path="net.safetensors")
    whole = tiny.run(NET, table, longer, name="whole")
    tiny.run(NET, table)
    (tiny.folder / "net.safetensors").unlink()
    resumed = tiny.run(NET, table, longer, resume=True)
    for owner in ("model", "optimizer", "rng"):
        assert difference(whole[owner], resumed[owner], owner) is None
    tiny.run(NET, table, longer, modes=("test",))
    with pytest.raises(CheckpointError, match="does not exist"):
        tiny.run(NET, table, name="new")


def test_resume_of_a_run_without_a_checkpoint_loads_them(tiny, weights):
    state = tiny.run(NET, STILL, init(path="net.safetensors"), resume=True)["model"]
    assert "head.weight" in same(state, weights)


def test_finetuning_starts_from_the_checkpoint_that_is_named(tiny, weights):
    base = tiny.run(NET, name="base")["model"]
    options = {"modes": ("finetune",), "ckpt_path": str(tiny.folder / "exp/base/checkpoints/latest")}
    state = tiny.run(NET, STILL, init(path="net.safetensors"), **options)["model"]
    assert state["head.weight"].equal(base["head.weight"])


def test_changed_source_is_drift_but_no_warning_in_a_test(tiny, weights, capsys):
    tiny.run(NET, init(path="net.safetensors"))
    shutil.copy("net.safetensors", "other.safetensors")
    longer = ("max_epochs = 2", "max_epochs = 3")
    with pytest.raises(CheckpointError) as error:
        tiny.run(NET, longer, init(path="other.safetensors"), resume=True)
    assert any("model.init.path" in note for note in error.value.notes)
    capsys.readouterr()
    tiny.run(NET, init(path="other.safetensors"), modes=("test",))
    assert "other settings" not in capsys.readouterr().err


@pytest.mark.slow
def test_ranks_that_read_different_weights_are_an_error_on_all(tiny, weights):
    other = {name: value + 1 for name, value in weights.items()}

    def train(rank):
        save_file(other if rank else weights, f"rank{rank}.safetensors")
        (tiny.folder / f"rank{rank}").mkdir()
        shutil.copy(f"rank{rank}.safetensors", f"rank{rank}/net.safetensors")
        os.chdir(tiny.folder / f"rank{rank}")
        tiny.run(NET, init(path="net.safetensors"), name="both")

    results = on_ranks(2, train)
    assert all(isinstance(result, Failed) and "read different weights" in result.args[1] for result in results)
