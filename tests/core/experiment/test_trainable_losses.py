"""`[loss_function] trainable`: the TOML file must say whether a loss with parameters is trained or frozen."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from audiozen_core.config.explain import explain
from audiozen_core.config.json_schema import experiment_schema
from audiozen_core.config.load import load_config
from audiozen_core.errors import BuildError, RunError
from audiozen_core.experiment.dry_run import dry_run
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.experiment.part_parameters import count_trained
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.losses import follow_mode
from audiozen_plugins.hooks.clip_grad_norm import ClipGradNorm
from audiozen_plugins.hooks.nonfinite import NonFinite
from tests.tiny_experiment import TOML, TinyExperiment
from tests.tiny_training import TinyTrainer, make_loader, make_trainer, state_of

LOSSES = '''
class Uncertain(nn.Module):
    """The error, weighted by a learnt variance. A buffer follows it, and a part drops half of the values."""

    def __init__(self):
        super().__init__()
        self.log_var = nn.Parameter(torch.zeros(1))
        self.drop = nn.Dropout(0.5)
        self.judge = nn.BatchNorm1d(1).requires_grad_(False)
        self.register_buffer("running", torch.zeros(1))
        self.modes = []

    def forward(self, output, target):
        self.modes.append((self.training, self.drop.training, self.judge.training))
        error = (output - target).square().mean()
        if self.training:
            self.running.lerp_(error.detach(), 0.1)
        return torch.exp(-self.log_var) * error + self.log_var


class Frozen(Uncertain):
    def __init__(self):
        super().__init__()
        self.requires_grad_(False)


class Follows(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("running", torch.zeros(1))

    def forward(self, output, target):
        error = (output - target).square().mean()
        if self.training:
            self.running.lerp_(error.detach(), 0.1)
        return error


class Augmented(nn.Module, Data):
    def __init__(self):
        nn.Module.__init__(self)
        Data.__init__(self)
        self.gain = nn.Parameter(torch.ones(1))


class Gan(BaseTrainer):
    def training_step(self, batch, batch_idx):
        losses = {name: self.loss_functions[name](net(batch["x"]), batch["y"]) for name, net in self.models.items()}
        return {f"loss_{name}": loss for name, loss in losses.items()}


class Watches:
    @hookimpl
    def on_epoch_end(self, trainer):
        loss = trainer.loss_functions[""]
        trainer.log.info("modes", modes=str(sorted(set(loss.modes))))
'''

LOSS = '[loss_function]\npath = "torch.nn.MSELoss"'
TWO = """\
[meta]
save_dir = "exp"
device = "cpu"
[trainer]
path = "parts.Gan"
args.max_epochs = 2
[model_g]
path = "torch.nn.Linear"
args = {in_features = 4, out_features = 1}
[model_d]
path = "torch.nn.Linear"
args = {in_features = 4, out_features = 1}
[loss_function_g]
path = "parts.Uncertain"
trainable = true
[loss_function_d]
path = "parts.Uncertain"
trainable = false
[optimizer_g]
path = "torch.optim.SGD"
args.lr = 0.1
[optimizer_d]
path = "torch.optim.SGD"
args.lr = 0.1
[dataset]
path = "parts.Data"
dataloader.batch_size = 2
"""


def uses(name, trainable=None):
    decided = "" if trainable is None else f"\ntrainable = {str(trainable).lower()}"
    return LOSS, f'[loss_function]\npath = "parts.{name}"{decided}'


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, LOSSES)


def test_loss_with_parameters_is_an_error_until_the_file_decides(tiny):
    with pytest.raises(BuildError, match=r"\[loss_function\] has the parameter `log_var`") as error:
        tiny.build(uses("Uncertain"))
    assert "`trainable = true`" in error.value.remedy
    assert "`trainable = false`" in error.value.remedy


def position(tiny, error):
    """Returns the code of an error, and the line of the TOML file that it points at."""
    (finding,) = error.diagnostics
    return finding.code, (tiny.folder / "tiny.toml").read_text().splitlines()[finding.span.line - 1]


@pytest.mark.parametrize(
    ("changes", "code", "line"),
    [
        ([uses("Uncertain")], "AZ104", "[loss_function]"),
        ([uses("Follows", True)], "AZ106", "trainable = true"),
        ([uses("Uncertain", True), ("[loss_function]", "[loss_function_g]")], "AZ108", "trainable = true"),
        ([('[dataset]\npath = "parts.Data"', '[dataset]\npath = "parts.Augmented"')], "AZ149", "[dataset]"),
    ],
)
def test_error_about_parameters_has_a_position_and_the_code_of_its_kind(tiny, changes, code, line):
    with pytest.raises(BuildError) as caught:
        tiny.build(*changes)
    assert position(tiny, caught.value) == (code, line)
    assert "tiny.toml:" in str(caught.value)


@pytest.mark.parametrize("modes", [["test"], ["validate"], ["validate", "test"]])
def test_without_a_training_no_loss_needs_to_say_whether_it_is_trained(tiny, modes):
    tiny.run(uses("Uncertain", True))
    undecided = tiny.write(uses("Uncertain"))
    Experiment.load(undecided, modes=modes).run()
    # The negative control: a training needs it.
    with pytest.raises(BuildError, match="does not say whether it is trained"):
        Experiment.load(tiny.write(uses("Uncertain"), name="new"), modes=["train", *modes]).run()


@pytest.mark.parametrize(("name", "trainable"), [("Frozen", True), ("Follows", True)])
def test_nothing_to_train_is_an_error(tiny, name, trainable):
    with pytest.raises(BuildError, match="has no parameters to train"):
        tiny.build(uses(name, trainable))


def by_hand(epochs=2):
    """Trains the network and the loss of the tiny experiment with one optimiser."""
    torch.manual_seed(0)
    net, log_var = nn.Linear(4, 1), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([*net.parameters(), log_var], lr=0.1)
    data = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    for _ in range(epochs):
        for x in data.split(2):
            optimizer.zero_grad()
            error = (net(x) - x.sum(-1, keepdim=True)).square().mean()
            (torch.exp(-log_var) * error + log_var).backward()
            optimizer.step()
    return net, log_var


UNSHUFFLED = ('[dataset]\npath = "parts.Data"\n', '[dataset]\npath = "parts.Data"\ndataloader.shuffle = false\n')


def test_trainable_loss_is_trained_by_the_optimizer_of_the_model(tiny):
    state = tiny.run(uses("Uncertain", True), UNSHUFFLED)
    net, log_var = by_hand()
    torch.testing.assert_close(state["loss_function"]["log_var"], log_var.detach())
    torch.testing.assert_close(state["model"]["weight"], net.weight.detach())
    assert log_var.abs() > 0.1
    assert len(state["optimizer"]["state"]) == 3


def test_frozen_loss_keeps_its_parameters_and_buffers(tiny):
    state = tiny.run(uses("Uncertain", False))
    assert state["loss_function"]["log_var"] == 0.0
    assert state["loss_function"]["running"] == 0.0  # it only moves in training mode
    assert len(state["optimizer"]["state"]) == 2


def test_loss_without_parameters_follows_the_mode_and_its_buffer_is_saved(tiny):
    state = tiny.run(uses("Follows"))
    assert state["loss_function"]["running"] > 0.0
    state = tiny.run(uses("Follows"), ("validate_dataset", "test_dataset"), name="unvalidated", text=NO_VALIDATION)
    assert torch.equal(state["loss_function"]["running"], tiny.state("tiny")["loss_function"]["running"])


NO_VALIDATION = """\
[meta]
save_dir = "exp"
device = "cpu"
[trainer]
path = "parts.Trainer"
[trainer.args]
max_epochs = 2
[model]
path = "torch.nn.Linear"
args = {in_features = 4, out_features = 1}
[loss_function]
path = "torch.nn.MSELoss"
[optimizer]
path = "torch.optim.Adam"
args.lr = 0.1
[dataset]
path = "parts.Data"
dataloader.batch_size = 2
[validate_dataset]
path = "parts.Data"
"""


@pytest.mark.parametrize(
    ("name", "trainable", "training"),
    [("Uncertain", True, (True, True, False)), ("Uncertain", False, (False,) * 3), ("Frozen", None, (False,) * 3)],
)
def test_each_part_of_a_loss_is_in_the_right_mode(tiny, name, trainable, training):
    trainer, loaders = tiny.build(uses(name, trainable))
    modes = trainer.loss_function.modes
    trainer.train(loaders["train"][0], loaders["validate"])
    assert modes == [*[training] * 3, *[(False,) * 3] * 3] * 2


def test_resumed_run_ends_with_the_same_loss_and_optimizer(tiny):
    whole = tiny.run(uses("Uncertain", True), name="whole", overrides=["trainer.args.max_epochs=4"])
    tiny.run(uses("Uncertain", True), name="parts")
    resumed = tiny.run(uses("Uncertain", True), name="parts", overrides=["trainer.args.max_epochs=4"], resume=True)
    for owner in ("model", "loss_function"):
        for name, value in whole[owner].items():
            assert torch.equal(value, resumed[owner][name])
    moments = [state["optimizer"]["state"][2]["exp_avg"] for state in (whole, resumed)]
    assert torch.equal(*moments)
    assert moments[0].abs() > 0


def test_each_loss_belongs_to_the_optimizer_of_its_suffix(tiny):
    state = tiny.run(text=TWO)
    assert state["loss_function_g"]["log_var"] != 0.0
    assert state["loss_function_d"]["log_var"] == 0.0
    sizes = {name: len(state[f"optimizer_{name}"]["param_groups"][0]["params"]) for name in ("g", "d")}
    assert sizes == {"g": 3, "d": 2}


def test_trainable_loss_without_its_optimizer_is_an_error(tiny):
    text = TWO.replace("[loss_function_g]", "[loss_function]")
    with pytest.raises(BuildError, match=r"the file has no \[optimizer\], only \[optimizer_d\], \[optimizer_g\]"):
        tiny.build(text=text)


def learnable(suffixes=("",), **options):
    """Returns a trainer whose network and loss have one weight each, both trained by one optimiser."""

    class Scale(nn.Module):
        def __init__(self, value=0.0):
            super().__init__()
            self.factor = nn.Parameter(torch.tensor([value]))

        def forward(self, *inputs):
            return self.factor * inputs[0]

    class Uses(TinyTrainer):
        def training_step(self, batch, batch_idx):
            return self.loss_function(self.model(batch["x"])).mean() * 100

    net, loss = Scale(2.0), Scale(3.0)
    optimizer = torch.optim.SGD([*net.parameters(), *loss.parameters()], lr=1e-3)
    return Uses(Components({"": net}, loss_functions={"": loss}, optimizers={"": optimizer}, **options), max_epochs=1)


def test_parameters_of_the_loss_count_in_the_norm_and_are_clipped():
    trainer = learnable()
    x = torch.full((1, 4), 2.0)
    trainer.backward_losses(trainer.forward_batch({"x": x}, 0)[0])
    # The loss is 100 * 3 * 2 * x, so its derivatives are 600 and 400.
    assert [float(weight.grad) for weight in trainer.trained_parameters("")] == [600.0, 400.0]
    assert float(trainer.measure_gradients()[""]) == pytest.approx((600**2 + 400**2) ** 0.5)
    trainer.clip_grad_norm_value = 1.0
    ClipGradNorm().on_gradients_ready(trainer)
    clipped = torch.cat([weight.grad for weight in trainer.trained_parameters("")])
    assert float(clipped.norm()) == pytest.approx(1.0, rel=1e-4)


def test_error_names_the_weight_of_the_loss_that_is_not_finite():
    trainer = learnable()
    with torch.no_grad():
        trainer.loss_function.factor.fill_(torch.inf)
    with pytest.raises(RunError, match=r"of \[loss_function\] was already not finite"):
        trainer.train(make_loader())
    with pytest.raises(RunError, match=r"the weight `factor` of \[loss_function\] is not finite"):
        state_of(trainer)


def test_hook_restores_the_buffers_of_the_loss_after_a_skipped_batch():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("batches", torch.zeros(()))

        def forward(self, output, target):
            self.batches += 1
            return (output - target).square().mean() * (torch.nan if self.batches == 2 else 1.0)

    class Uses(TinyTrainer):
        def _error(self, batch):
            return self.loss_function(self.model(batch["x"]), batch["y"])

    hooks = {"nonfinite": NonFinite()}
    trainer = make_trainer(cls=Uses, loss=Counts(), hooks=hooks, max_epochs=1, on_nonfinite="skip", max_nonfinite=9)
    trainer.train(make_loader())
    assert trainer.loss_function.batches == 1  # every later batch is the second one again


def test_data_set_with_parameters_is_an_error(tiny):
    changed = ('[dataset]\npath = "parts.Data"', '[dataset]\npath = "parts.Augmented"')
    with pytest.raises(BuildError, match=r"\[dataset\] has the parameter `gain`, .* no optimiser trains them"):
        tiny.build(changed)


def test_dry_run_and_a_test_know_the_loss(tiny):
    facts = dry_run(Experiment.load(tiny.write(uses("Uncertain", True))))
    assert "no gradient" not in facts
    tiny.run(uses("Uncertain", True), modes=("train", "test"))


COUNTED = {
    (True, "[loss_function]"): {"model_parameters": 5, "loss_function_parameters": 1},
    (False, "[loss_function]"): {"model_parameters": 5},
    (True, "[loss_function_g]"): {"model_g_parameters": 5, "loss_function_g_parameters": 1, "model_d_parameters": 5},
}


@pytest.mark.parametrize(("trainable", "section"), COUNTED)
def test_log_and_check_count_the_trained_parameters_of_networks_and_losses(tiny, trainable, section):
    changes, text = ((), TWO) if section == "[loss_function_g]" else ((uses("Uncertain", trainable),), TOML)
    # The BatchNorm layer in the loss is frozen, so its weight and bias do not count.
    counted = COUNTED[trainable, section]
    tiny.run(*changes, text=text)
    first = json.loads((tiny.folder / "exp/tiny/tiny.log").read_text().splitlines()[0])
    assert {name: value for name, value in first.items() if name.endswith("parameters")} == counted
    weights = dry_run(Experiment.load(tiny.folder / "tiny.toml"))["weights"]
    assert set(weights.split(", ")) == {f"{name.removesuffix('_parameters')} {size}" for name, size in counted.items()}


def test_lazy_loss_that_has_no_shapes_yet_is_not_counted():
    assert count_trained({"model": nn.Linear(4, 1), "loss_function": nn.LazyLinear(1)}) == {"model": 5}


def test_explain_and_schema_know_the_key(tiny):
    text = explain(load_config(tiny.write(uses("Uncertain", True))), "loss_function.trainable")
    assert "= true" in text
    assert "optimiser with the same suffix" in text
    assert "trainable" in experiment_schema()["definitions"]["loss_function"]["properties"]


class Compares(nn.Module):
    """A loss with running values of its own beside a pretrained network, which is frozen as a whole."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(1, 4, 5), nn.BatchNorm1d(4, affine=False), nn.Dropout(0.5))
        self.net.requires_grad_(False)
        self.more = nn.ModuleList([nn.Conv1d(1, 1, 1).requires_grad_(False), nn.BatchNorm1d(1, affine=False)])
        self.norm = nn.BatchNorm1d(1, affine=False)
        self.register_buffer("scale", torch.ones(()))


def in_training(loss):
    follow_mode(loss, training=True)
    names = {name.removeprefix("_orig_mod").lstrip(".") for name, part in loss.named_modules() if part.training}
    follow_mode(loss, training=False)
    assert not any(part.training for part in loss.modules())
    return names


@pytest.mark.parametrize("wrap", [lambda loss: loss, torch.compile])
def test_frozen_child_does_not_freeze_the_loss_nor_what_lies_beside_it(wrap):
    assert in_training(wrap(Compares())) == {"", "more", "more.1", "norm"}


def test_parts_with_weights_to_train_follow_the_mode_beside_frozen_ones():
    """The negative control: nothing is frozen, or only a layer."""
    loss = Compares().requires_grad_(True)
    assert in_training(loss) == {name for name, _ in loss.named_modules()}
    loss.net.append(nn.Conv1d(4, 1, 1))
    loss.net[0].requires_grad_(False)
    assert in_training(loss) == {name for name, _ in loss.named_modules()} - {"net.0"}


def test_loss_with_frozen_parameters_of_its_own_is_frozen_as_a_whole():
    loss = Compares()
    loss.register_parameter("weight", nn.Parameter(torch.ones(1), requires_grad=False))
    assert in_training(loss) == set()
