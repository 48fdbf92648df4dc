"""Groups of an optimiser: which parameters they have, with which values, and when they are trained."""

from pathlib import Path

import pytest
import torch

from audiozen_core.errors import BuildError, CheckpointError, ConfigError
from audiozen_core.experiment.dry_run import dry_run
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.regroup_state import regroup_state
from tests.core.checkpoint.exactness import difference
from tests.on_ranks import all_right, on_ranks
from tests.tiny_experiment import TOML, TinyExperiment

PARTS = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.2))
        self.free = nn.BatchNorm1d(4, affine=False)
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        return self.head(self.free(self.encoder(x)))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(4, 4, bias=False)
        self.second = nn.Linear(4, 4, bias=False)
        self.second.weight = self.first.weight
        self.head = nn.Linear(4, 1)

    def forward(self, x):
        return self.head(self.second(self.first(x)))


class Scales(nn.Module):
    def __init__(self):
        super().__init__()
        self.log_var = nn.Parameter(torch.zeros(1))

    def forward(self, output, target):
        return (torch.exp(-self.log_var) * (output - target).square().mean() + self.log_var).sum()


class Two(BaseTrainer):
    def training_step(self, batch, batch_idx):
        losses = {f"loss_{name}": (self.models[name](batch["x"]) - batch["y"]).square().mean() for name in ("a", "b")}
        return losses

    def validation_step(self, batch, batch_idx, dataloader_idx):
        return (self.models["a"](batch["x"]) - batch["y"]).square().mean()

    def validation_epoch_end(self, outputs):
        return -float(torch.stack(outputs[0]).mean())


class Wrapped(nn.Module):
    # It adds the prefix of a compiled network. Compiling one takes seconds.

    def __init__(self, module):
        super().__init__()
        self._orig_mod = module

    def forward(self, x):
        return self._orig_mod(x)


class Compile:
    @hookimpl.on_component_built
    def on_component_built(self, section, component):
        return Wrapped(component) if section == "model" else component
"""
NET = ('path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}', 'path = "parts.Net"')
ENCODER = ["encoder.0.weight", "encoder.0.bias", "encoder.1.weight", "encoder.1.bias"]
SGD = ('path = "torch.optim.Adam"', 'path = "torch.optim.SGD"')
SAVE = ("max_epochs = 2", "max_epochs = 4\nsave_ckpt_interval_steps = 1\nmax_num_checkpoints = 99")


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


def groups(*tables, section="optimizer"):
    return ("[dataset]", "".join(f"[[{section}.groups]]\n{table}\n" for table in tables) + "[dataset]")


def parameters(trainer, suffix=""):
    return {group["name"]: group["param_names"] for group in trainer.optimizers[suffix].param_groups}


def test_each_parameter_is_in_exactly_one_group_with_its_own_values(tiny):
    tables = (
        'match = "encoder.*"\nlr = 0.01',
        'match = ["*.bias", "nothing.*"]\nweight_decay = 0.5\nbetas = [0.5, 0.9]',
    )
    with pytest.raises(BuildError, match=r"`nothing\.\*`"):
        tiny.build(NET, groups(*tables))
    trainer, _ = tiny.build(NET, groups(tables[0], tables[1].replace(', "nothing.*"', "")))
    assert parameters(trainer) == {"encoder": ENCODER, "bias": ["head.bias"], "default": ["head.weight"]}
    named = dict(trainer.model.named_parameters())
    values = []
    for group in trainer.optimizer.param_groups:
        assert [id(named.pop(name)) for name in group["param_names"]] == list(map(id, group["params"]))
        values.append((group["lr"], group["weight_decay"], group["betas"]))
    assert named == {}
    assert values == [(0.01, 0, (0.9, 0.999)), (0.1, 0.5, (0.5, 0.9)), (0.1, 0, (0.9, 0.999))]


def test_weights_are_those_of_a_torch_optimiser_with_the_same_groups(tiny):
    changes = [("max_epochs = 2", "max_epochs = 1"), SGD, groups('match = "bias"\nlr = 0.02\nweight_decay = 0.3')]
    trainer, loaders = tiny.build(*changes)
    model = torch.nn.Linear(4, 1)
    model.load_state_dict(trainer.model.state_dict())
    expected = torch.optim.SGD(
        [{"params": [model.bias], "lr": 0.02, "weight_decay": 0.3}, {"params": [model.weight]}], lr=0.1
    )
    for batch in loaders["train"][0].epoch(1):
        torch.nn.functional.mse_loss(model(batch["x"]), batch["y"]).backward()
        expected.step()
        expected.zero_grad()
    state = tiny.run(*changes)["model"]
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    plain = tiny.run(changes[0], SGD, name="plain")["model"]
    assert not torch.equal(plain["bias"], state["bias"])


@pytest.mark.parametrize(
    ("table", "message", "remedy"),
    [
        ('match = "encodr.*"', "matches no parameter", "`encoder.*`"),
        ('match = "encoder"', "matches no parameter", "did you mean `encoder.*`?"),
        ('match = "zzz"', "matches no parameter", "the names begin with encoder, head"),
        ('match = "*"\nfreeze = true', "nothing to train in the first epoch", "leave [optimizer] out"),
        ('match = "*"\nunfreeze_epoch = 2', "nothing to train in the first epoch", "leave [optimizer] out"),
        ('match = "*"\nlr = -1.0', "Invalid learning rate: -1.0", "[optimizer.groups.0]"),
        ('match = "*"\n[[optimizer.groups]]\nmatch = "head.*"', "belong to [optimizer.groups.0]", "special patterns"),
    ],
)
def test_group_that_the_network_does_not_allow_is_an_error_at_its_place_and_nothing_is_written(
    tiny, table, message, remedy
):
    with pytest.raises(BuildError) as error:
        tiny.run(NET, groups(table))
    assert message in error.value.message
    assert remedy.replace("`", "") in error.value.remedy.replace("`", "")
    assert error.value.diagnostics[0].span
    assert not (tiny.folder / "exp").exists() or not any((tiny.folder / "exp").iterdir())


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('match = "*"\nlrr = 1', "unknown argument `lrr`"),
        ('match = "*"\nfreze = true', "unknown argument `freze`"),
        ('match = "*"\nlr = "high"', "takes `float | Tensor`"),
        ('match = "*"\nparams = 1', "is set by AudioZEN"),
        ("lr = 0.1", "has no `match`"),
        ("match = []", "has no pattern"),
        ('match = "*"\nfreeze = false\nunfreeze_epoch = 2', "but also `unfreeze_epoch`"),
        ('match = "*"\nunfreeze_epoch = 1', "must be at least 2"),
    ],
)
def test_group_with_wrong_keys_is_found_without_building(tiny, table, message):
    with pytest.raises(ConfigError) as error:
        Experiment.load(tiny.write(groups(table)))
    (finding,) = error.value.diagnostics
    assert message in finding.message
    assert finding.span.line > 10


def test_groups_written_as_one_table_are_an_error_that_shows_the_brackets(tiny):
    with pytest.raises(ConfigError) as error:
        Experiment.load(tiny.write(("[dataset]", '[optimizer.groups]\nmatch = "*"\n[dataset]')))
    assert "[[optimizer.groups]]" in error.value.diagnostics[0].label


def test_argument_that_an_optimiser_has_only_once_is_refused_in_a_group(tiny):
    own = "class Once(torch.optim.SGD):\n    def __init__(self, params, lr: float, seed: int = 0):\n"
    (tiny.folder / "parts.py").write_text(
        f"{(tiny.folder / 'parts.py').read_text()}\n\n{own}        super().__init__(params, lr)\n"
    )
    path = ('path = "torch.optim.Adam"', 'path = "parts.Once"')
    with pytest.raises(BuildError, match="has one `seed` for all parameters"):
        tiny.build(path, groups('match = "bias"\nseed = 1'))
    trainer, _ = tiny.build(path, groups('match = "bias"\nlr = 0.5'))
    assert [group["lr"] for group in trainer.optimizer.param_groups] == [0.5, 0.1]


def test_tied_parameter_has_one_group_under_any_of_its_names(tiny):
    for name in ("first", "second"):
        trainer, _ = tiny.build((NET[0], 'path = "parts.Tied"'), groups(f'match = "{name}.*"\nlr = 0.5'))
        assert parameters(trainer) == {name: ["first.weight"], "default": ["head.weight", "head.bias"]}


def test_names_of_a_compiled_network_have_no_prefix(tiny):
    trainer, _ = tiny.build(
        NET,
        groups('match = "encoder.*"\nlr = 0.5', 'match = "head.*"\nlr = 1.0'),
        ("[dataset]", '[[hooks]]\npath = "parts.Compile"\n[dataset]'),
    )
    assert "_orig_mod" in next(iter(trainer.model.state_dict()))
    assert parameters(trainer) == {"encoder": ENCODER, "head": ["head.weight", "head.bias"]}


def test_trained_loss_and_networks_with_suffixes_have_groups(tiny):
    loss = ('"torch.nn.MSELoss"', '"parts.Scales"\ntrainable = true')
    table = 'match = "loss_function.*"\nlr = 0.5'
    trainer, _ = tiny.build(loss, groups(table))
    assert parameters(trainer) == {"loss_function": ["loss_function.log_var"], "default": ["weight", "bias"]}
    text = (
        TOML.replace("[model]", "[model_a]")
        .replace("[optimizer]", "[optimizer_a]")
        .replace("parts.Trainer", "parts.Two")
    )
    second = """\
[model_b]
path = "torch.nn.Linear"
args = {in_features = 4, out_features = 1}
[optimizer_b]
path = "torch.optim.SGD"
args.lr = 0.1
[[optimizer_b.groups]]
match = "bias"
freeze = true
[dataset]"""
    text = text.replace("[dataset]", second)
    trainer, _ = tiny.build(text=text)
    before = {name: value.clone() for name, value in trainer.models["b"].state_dict().items()}
    state = tiny.run(text=text)
    assert torch.equal(state["model_b"]["bias"], before["bias"])
    assert not torch.equal(state["model_b"]["weight"], before["weight"])
    assert not torch.equal(state["model_a"]["bias"], trainer.models["a"].bias)


@pytest.mark.parametrize(
    "extra",
    [(), (("[trainer.args]", "[trainer.args]\nclip_grad_norm_value = 0.1"), ("[meta]", "[meta]\nuse_amp = true"))],
    ids=["plain", "amp and clipping"],
)
def test_frozen_weights_and_statistics_keep_their_values(tiny, extra):
    trainer, _ = tiny.build(NET)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    decay = ("args.lr = 0.1", "args = {lr = 0.1, weight_decay = 0.1}")
    frozen = tiny.run(NET, groups('match = "encoder.*"\nfreeze = true'), decay, *extra)["model"]
    changed = {name for name, value in before.items() if not torch.equal(frozen[name], value)}
    assert changed == {"head.weight", "head.bias", "free.running_mean", "free.running_var", "free.num_batches_tracked"}
    trained = tiny.run(NET, decay, *extra, name="trained")["model"]
    assert not any(torch.equal(trained[name], value) for name, value in before.items())


def test_dropout_of_a_frozen_part_stays_on_and_a_norm_without_weights_follows_the_module_around_it(tiny):
    frozen = groups('match = "encoder.*"\nfreeze = true', 'match = "head.bias"\nlr = 0.2')
    trainer, _ = tiny.build(NET, frozen)
    trainer.set_mode(training=True)
    modes = [part.training for part in (trainer.model.encoder[1], trainer.model.encoder[2], trainer.model.free)]
    assert modes == [False, True, True]


def test_weights_are_unfrozen_when_their_epoch_begins(tiny):
    trainer, _ = tiny.build(NET)
    before = trainer.model.state_dict()["encoder.0.weight"].clone()
    mean = trainer.model.state_dict()["encoder.1.running_mean"].clone()
    tiny.run(NET, SAVE, groups('match = "encoder.*"\nunfreeze_epoch = 3'))
    first = {epoch: tiny.state(which=Path(f"epoch_{epoch:04}"))["model"] for epoch in (1, 2, 3)}
    assert [torch.equal(first[epoch]["encoder.0.weight"], before) for epoch in (1, 2, 3)] == [True, True, False]
    assert [torch.equal(first[epoch]["encoder.1.running_mean"], mean) for epoch in (1, 2, 3)] == [True, True, False]


def test_resume_around_the_change_is_exact_to_the_last_bit(tiny):
    changes = (NET, SAVE, groups('match = "encoder.*"\nunfreeze_epoch = 3', 'match = "head.bias"\nweight_decay = 0.1'))
    whole = tiny.run(*changes)
    checkpoints = tiny.folder / "exp/tiny/checkpoints"
    # The last epoch before the change ends with step 6. A later checkpoint comes first, because it then becomes stale.
    for name in ("epoch_*_step_*7", "epoch_0002", "epoch_*_step_*4"):
        (path,) = (path for path in checkpoints.glob(name) if path.suffix != ".stale")
        resumed = tiny.run(*changes, resume=True, ckpt_path=str(path))
        for owner in ("model", "optimizer", "progress", "rng"):
            assert difference(whole[owner], resumed[owner], f"{name} {owner}") is None


def resumed(tiny, *changes):
    return tiny.run(*changes, resume=True, allow_drift=True)


def test_changed_rate_of_a_group_is_drift_and_is_taken_if_allowed(tiny):
    def table(lr, other=""):
        return groups(f'match = "encoder.*"\nlr = {lr}{other}')

    tiny.run(NET, table(0.01))
    longer = ("max_epochs = 2", "max_epochs = 3")
    with pytest.raises(CheckpointError) as error:
        tiny.run(NET, longer, table(0.02), resume=True)
    assert any("optimizer.groups.0.lr: 0.01 -> 0.02" in note for note in error.value.notes)
    state = resumed(tiny, NET, longer, table(0.02))["optimizer"]
    assert [group["lr"] for group in state["param_groups"]] == [0.02, 0.1]
    assert {float(entry["step"]) for entry in state["state"].values()} == {9.0}


def test_parameters_keep_their_state_when_patterns_change_or_groups_come_and_go(tiny):
    longer = ("max_epochs = 2", "max_epochs = 3")
    still = ("args.lr = 0.1", "args.lr = 0.0")
    tiny.run(NET, still)
    tables = groups('match = "head.*"\nweight_decay = 0.5', 'match = "*.bias"\nlr = 0.0')

    def moments(state, names):
        return {
            name: entry["step"].item() for name, entry in zip(names, state["optimizer"]["state"].values(), strict=True)
        }

    order = [*ENCODER, "head.weight", "head.bias"]
    before = {name: tiny.state()["optimizer"]["state"][index]["exp_avg"] for index, name in enumerate(order)}
    trainer, _ = tiny.build(NET, still, tables)
    moved = regroup_state(tiny.state()["optimizer"], trainer.optimizer.state_dict(), trainer, "")
    names = [name for group in trainer.optimizer.param_groups for name in group["param_names"]]
    assert names != order
    assert all(moved["state"][index]["exp_avg"].equal(before[name]) for index, name in enumerate(names))
    after = resumed(tiny, NET, longer, still, tables)
    assert moments(after, names) == dict.fromkeys(names, 9.0)
    again = resumed(tiny, NET, ("max_epochs = 2", "max_epochs = 4"), still)
    assert moments(again, order) == dict.fromkeys(order, 12.0)
    assert len(again["optimizer"]["param_groups"]) == 1


def test_scheduler_scales_the_rate_of_each_group(tiny):
    step = (
        "[dataset]",
        '[lr_scheduler]\npath = "torch.optim.lr_scheduler.StepLR"\nargs = {step_size = 1, gamma = 0.5}\n[dataset]',
    )
    tables = groups('match = "bias"\nlr = 0.02')
    state = tiny.run(step, tables)
    assert [group["lr"] for group in state["optimizer"]["param_groups"]] == [0.005, 0.025]
    changed = groups('match = "weight"\nlr = 0.04')
    state = resumed(tiny, step, ("max_epochs = 2", "max_epochs = 3"), changed)
    assert [group["lr"] for group in state["optimizer"]["param_groups"]] == [0.005, 0.0125]


def test_scheduler_that_ignores_the_rates_of_the_groups_is_refused(tiny):
    def cycle(rate):
        path = "torch.optim.lr_scheduler.OneCycleLR"
        return (
            "[dataset]",
            f'[lr_scheduler]\npath = "{path}"\ninterval = "step"\nargs = {{max_lr = {rate}, total_steps = 9}}\n'
            "[dataset]",
        )

    tables = groups('match = "bias"\nlr = 0.02')
    with pytest.raises(BuildError) as error:
        tiny.build(cycle(0.1), tables)
    assert "the same learning rate" in error.value.message
    assert "in the order bias, default" in error.value.remedy
    trainer, _ = tiny.build(cycle("[0.1, 0.2]"), tables)
    assert [group["max_lr"] for group in trainer.optimizer.param_groups] == [0.1, 0.2]
    tiny.build(cycle(0.1), groups('match = "bias"\nweight_decay = 0.02'))


def test_check_build_prints_the_groups(tiny):
    tables = groups('match = "encoder.*"\nlr = 0.01\nunfreeze_epoch = 5', 'match = "head.bias"\nweight_decay = 0.5')
    facts = dry_run(Experiment.load(tiny.write(NET, tables)))
    assert {name: fact for name, fact in facts.items() if "group" in name} == {
        "optimizer group encoder": "`encoder.*`, 4 parameters with 28 weights, lr = 0.01, weight_decay = 0, "
        "frozen until epoch 5 begins",
        "optimizer group head_bias": "`head.bias`, 1 parameter with 1 weight, lr = 0.1, weight_decay = 0.5",
        "optimizer group default": "all others, 1 parameter with 4 weights, lr = 0.1, weight_decay = 0",
    }
    assert not any("group" in name for name in dry_run(Experiment.load(tiny.write(NET))))


def test_records_have_the_rate_of_each_group(tiny):
    tiny.run(groups('match = "bias"\nlr = 0.02'))
    text = (tiny.folder / "exp/tiny/metrics.jsonl").read_text()
    assert '"train/lr_bias": 0.02' in text
    assert '"train/lr_default": 0.1' in text


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["data_parallel", "fully_sharded"])
def test_ranks_unfreeze_together(tiny, strategy):
    changes = (NET, SAVE)
    parts = (tiny.folder / "parts.py").read_text().replace("nn.BatchNorm1d(4), nn.Dropout(0.2)", "nn.Tanh()")
    (tiny.folder / "parts.py").write_text(
        parts.replace("self.free = nn.BatchNorm1d(4, affine=False)", "self.free = nn.Identity()")
    )
    tables = groups('match = "encoder.*"\nunfreeze_epoch = 3\nlr = 0.01')
    alone = tiny.run(*changes, tables, name="alone")
    section = ("[dataset]", f'[distributed]\nstrategy = "{strategy}"\n[dataset]')
    all_right(on_ranks(2, lambda rank: tiny.run(*changes, tables, section, name="both") and None))
    both = tiny.state("both")
    first = tiny.state("both", Path("epoch_0002"))["model"]
    assert torch.equal(first["encoder.0.weight"], tiny.state("alone", Path("epoch_0001"))["model"]["encoder.0.weight"])
    assert not torch.equal(both["model"]["encoder.0.weight"], first["encoder.0.weight"])
    assert [group["lr"] for group in both["optimizer"]["param_groups"]] == [0.01, 0.1]
    assert both["optimizer"]["param_groups"][0]["param_names"] == alone["optimizer"]["param_groups"][0]["param_names"]
