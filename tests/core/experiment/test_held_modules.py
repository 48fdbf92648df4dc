"""Modules that a loss or a data set holds, but does not register: they are treated like registered ones, or refused."""

from __future__ import annotations

import pytest
import torch

from audiozen_core.errors import BuildError
from audiozen_core.trainer.held_modules import held_modules, unregistered
from audiozen_core.trainer.losses import LossOfModules
from tests.tiny_experiment import TinyExperiment

PARTS = """
import functools


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Linear(1, 1)
        self.norm = nn.BatchNorm1d(1)

    def forward(self, x):
        return self.norm(self.scale(x))


def compare(output, target, net):
    MODES.append(net.training)
    return (net(output) - net(target)).abs().mean() + (output - target).square().mean()


MODES = []


class Registers(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = Net()

    def forward(self, output, target):
        return compare(output, target, self.net)


class Plain:
    def __init__(self):
        self.net = Net()
        self.itself = self

    def __call__(self, output, target):
        return compare(output, target, self.net)


class InDict(Plain):
    def __init__(self):
        self.nets = {"a.b": Net()}

    def __call__(self, output, target):
        return compare(output, target, self.nets["a.b"])


class Deep(Plain):
    def __init__(self):
        self.inner = Plain()

    def __call__(self, output, target):
        return self.inner(output, target)


def make():
    net = Net()
    return lambda output, target: compare(output, target, net)


torch.manual_seed(5)
closed = make()
method = Plain().__call__
GLOBAL = Net()


def uses_global(output, target):
    return compare(output, target, GLOBAL)


def in_default(output, target, net=Net()):
    return compare(output, target, net)


def in_keyword(output, target, *, net=Net()):
    return compare(output, target, net)


class InClass:
    net = Net()

    def __call__(self, output, target):
        return compare(output, target, self.net)


class InMethod:
    def __call__(self, output, target, net=Net()):
        return compare(output, target, net)


class Listed(nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        net = Net().requires_grad_(False)
        self.nets = {"list": [net], "tuple": (net,), "dict": {"a": net}, "object": Plain()}[kind]

    def forward(self, output, target):
        return (output - target).square().mean()


class Saves(Plain):
    def state_dict(self):
        return self.net.state_dict()

    def load_state_dict(self, state):
        self.net.load_state_dict(state)


class WithParameter:
    def __init__(self):
        self.weights = [nn.Parameter(torch.ones(1))]

    def __call__(self, output, target):
        return (output - target).square().mean() * self.weights[0]


class Network(nn.Module):
    # Holds something in a form that `nn.Module` does not register.
    def __init__(self, held: str):
        super().__init__()
        self.linear = nn.Linear(4, 1)
        net = Net()
        self.rest = {
            "list": lambda: [net],
            "nested": lambda: {"blocks": [{"a": net}]},
            "partial": lambda: functools.partial(compare, net=net),
            "closure": lambda: lambda x: net(x),
            "object": Plain,
            "parameter": lambda: [nn.Parameter(torch.ones(1))],
            "running mean": lambda: [nn.BatchNorm1d(1, affine=False)],
            "dropout": lambda: {"dropout": nn.Dropout(0.5)},
            "frozen, in training mode": lambda: [net.requires_grad_(False)],
            "frozen": lambda: [net.requires_grad_(False).eval()],
            "frozen parameter": lambda: [nn.Parameter(torch.ones(1), requires_grad=False)],
            "activation": lambda: {"relu": nn.ReLU()},
            "registered": lambda: [self.linear, nn.Sequential(self.linear), self.linear.weight],
            "compiled": lambda: [torch.compile(self.linear, backend="eager")],
            "class": lambda: functools.partial(nn.Linear, 4),
        }[held]()

    def forward(self, x):
        return self.linear(x)


class Holds(Trainer):
    def __init__(self, components, *, kind: str, **kwargs):
        super().__init__(components, **kwargs)
        self.score = Plain()
        self.score.net.eval().requires_grad_(False)
        self.seen = {"train": [], "validate": []}
        self.augment = nn.Dropout(0.5)
        self.teacher = nn.Sequential(nn.BatchNorm1d(1), nn.Dropout(0.5)).requires_grad_(False)
        self.chosen = nn.Dropout(0.5).eval()
        if kind == "weights":
            self.aux = {"nets": [Net()]}
        if kind == "parameter":
            self.alpha = nn.Parameter(torch.ones(1))
        if kind == "running mean":
            self.norm = nn.BatchNorm1d(1, affine=False)
        if kind == "registered":
            self.average = nn.ModuleList([Net()])
            self.inner = self.average[0]
            self.state.register("average", self.average)

    def training_step(self, batch, batch_idx):
        self.seen["train"].append((self.augment.training, self.teacher[1].training, self.chosen.training))
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx, dataloader_idx):
        self.seen["validate"].append((self.augment.training, self.teacher[1].training, self.chosen.training))
        return Trainer.training_step(self, batch, batch_idx)["loss"]


class Teaches(Trainer):
    teacher = Net()


class InClassOfNetwork(nn.Linear):
    gate = Net()


class Augments(Data):
    def __init__(self, frozen: bool = False):
        super().__init__()
        self.nets = [Net().requires_grad_(not frozen)]


class Wraps(Data):
    def __init__(self):
        super().__init__()
        self.base = Augments()
"""
LOSS = '[loss_function]\npath = "torch.nn.MSELoss"'
DATA = '[dataset]\npath = "parts.Data"'
PARTIAL = '"parts.compare"\nargs.net.path = "parts.Net"\nargs.net.args = {}'
HELD = ['"parts.Plain"', '"parts.InDict"', '"parts.Deep"', PARTIAL, '"parts.closed"', '"parts.method"']
HELD += ['"parts.uses_global"', '"parts.in_default"', '"parts.in_keyword"', '"parts.InClass"', '"parts.InMethod"']


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


def uses(path, trainable=None):
    decided = "" if trainable is None else f"\ntrainable = {str(trainable).lower()}"
    head, *args = path.split("\n")
    return LOSS, "\n".join([f"[loss_function]\npath = {head}{decided}", *args])


@pytest.mark.parametrize("path", HELD)
def test_the_file_must_decide_about_weights_that_a_loss_holds(tiny, path):
    with pytest.raises(BuildError, match=r"\[loss_function\] has the parameter `.*scale.weight`") as error:
        tiny.build(uses(path))
    assert "`trainable = true`" in error.value.remedy


@pytest.mark.parametrize("trainable", [True, pytest.param(False, marks=pytest.mark.slow)])
@pytest.mark.parametrize("path", HELD)
def test_held_modules_are_trained_saved_and_switched_like_those_of_a_module(tiny, path, trainable):
    def after(path):
        trainer, loaders = tiny.build(uses(path, trainable))
        generator = torch.Generator().manual_seed(7)
        for weight in [*trainer.model.parameters(), *trainer.loss_function.parameters()]:
            weight.data = torch.randn(weight.shape, generator=generator)
        before = [weight.clone() for weight in trainer.loss_function.parameters()]
        trainer.train(loaders["train"][0], loaders["validate"])
        state = list(trainer.loss_function.state_dict().values())
        moved = [not torch.equal(*pair) for pair in zip(before, trainer.loss_function.parameters(), strict=True)]
        return [*trainer.model.state_dict().values(), *state], any(moved)

    (expected, moved), (got, _) = after('"parts.Registers"'), after(path)
    assert moved == trainable  # otherwise the comparison would show nothing
    assert len(got) == len(expected) == 9
    assert all(map(torch.equal, got, expected))


@pytest.mark.parametrize(("path", "name"), [('"parts.Plain"', "net"), (PARTIAL, "net"), ('"parts.Deep"', "inner_net")])
def test_they_are_in_the_checkpoint_by_name_and_in_evaluation_mode_in_a_validation(tiny, path, name):
    state = tiny.run(uses(path, True))
    assert state["loss_function"][f"{name}.norm.num_batches_tracked"] == 2 * 2 * 3  # twice a batch, two epochs
    trainer, loaders = tiny.build(uses(path, True))
    trainer.train(loaders["train"][0], loaders["validate"])
    modes = trainer.loss_function.get_submodule(name)
    assert not modes.training


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "object"])
def test_module_that_does_not_register_its_modules_is_an_error(tiny, kind):
    with pytest.raises(BuildError, match=r"\[loss_function\] holds `nets\..*`, but does not register it") as error:
        tiny.build(uses(f'"parts.Listed"\nargs.kind = "{kind}"'))
    assert error.value.remedy.startswith("register it in Listed: as an attribute, or in `nn.ModuleList`")


def test_loss_with_modules_and_a_state_dict_of_its_own_is_an_error(tiny):
    with pytest.raises(BuildError, match="defines a `state_dict`"):
        tiny.build(uses('"parts.Saves"'))


def test_parameter_of_a_loss_that_is_no_module_is_an_error(tiny):
    with pytest.raises(BuildError, match=r"\[loss_function\] has the parameter `weights.0`, but is not an nn.Module"):
        tiny.build(uses('"parts.WithParameter"'))


def network(held):
    old = 'path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}'
    return old, f'path = "parts.Network"\nargs.held = "{held}"'


UNREGISTERED = ["list", "nested", "partial", "closure", "object", "parameter", "running mean", "dropout"]
UNREGISTERED += ["frozen, in training mode"]


@pytest.mark.parametrize("held", UNREGISTERED)
def test_network_that_does_not_register_what_it_holds_is_an_error(tiny, held):
    with pytest.raises(BuildError, match=r"\[model\] holds `rest\..*`, but does not register it") as error:
        tiny.build(network(held))
    assert "`nn.ModuleList`" in error.value.remedy


@pytest.mark.parametrize("held", ["frozen", "frozen parameter", "activation", "registered", "compiled", "class"])
def test_network_may_hold_what_never_changes_or_is_registered(tiny, held):
    tiny.build(network(held))


def trainer(kind):
    return "[trainer.args]", f'[trainer.args]\nkind = "{kind}"'


MINE = ('"parts.Trainer"', '"parts.Holds"')


@pytest.mark.parametrize(
    ("kind", "name"), [("weights", "aux.nets.0.scale.weight"), ("parameter", "alpha"), ("running mean", "norm.runn")]
)
def test_trainer_that_holds_what_changes_and_is_not_saved_is_an_error(tiny, kind, name):
    with pytest.raises(BuildError, match=rf"\[trainer\] has the \w+ ?\w* `{name}") as error:
        tiny.build(MINE, trainer(kind))
    assert "if Holds changes it itself, register it in `__init__` with `self.state.register`" in error.value.remedy


def test_module_of_the_class_of_a_trainer_or_a_network_is_an_error(tiny):
    with pytest.raises(BuildError, match=r"\[trainer\] has the parameter `teacher.scale.weight`"):
        tiny.build(('"parts.Trainer"', '"parts.Teaches"'))
    with pytest.raises(BuildError, match=r"\[model\] holds `gate`, but does not register it"):
        tiny.build(('"torch.nn.Linear"', '"parts.InClassOfNetwork"'))


def test_trainer_may_hold_what_it_has_registered(tiny):
    state = tiny.run(MINE, trainer("registered"))
    assert state["average"]["0.scale.weight"].shape == (1, 1)


def test_modules_that_a_trainer_holds_follow_the_mode_and_frozen_ones_only_evaluate(tiny):
    trainer_, loaders = tiny.build(MINE, trainer("none"))
    trainer_.train(loaders["train"][0], loaders["validate"])
    assert set(trainer_.seen["train"]) == {(True, False, False)}
    assert set(trainer_.seen["validate"]) == {(False, False, False)}
    assert len(trainer_.seen["train"]) == 2 * 3


@pytest.mark.parametrize("name", ["Augments", "Wraps"])
def test_data_set_that_holds_weights_is_an_error(tiny, name):
    with pytest.raises(BuildError, match=r"\[dataset\] has the parameter `.*nets.0.scale.weight` and 3 more"):
        tiny.build((DATA, f'[dataset]\npath = "parts.{name}"'))


def test_data_set_that_holds_frozen_weights_is_none(tiny):
    tiny.build((DATA, '[dataset]\npath = "parts.Augments"\nargs.frozen = true'))


def test_registered_modules_are_not_held():
    class Lists(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.nets = torch.nn.ModuleList([torch.nn.Linear(1, 1)])
            self.same = [self.nets[0]]
            self.me = [self]

    assert held_modules(Lists()) == {}
    assert held_modules(torch.nn.functional.mse_loss) == {}
    normed = torch.nn.utils.parametrizations.weight_norm(torch.nn.LSTM(1, 1), "weight_hh_l0")
    assert unregistered(normed) == ""
    assert held_modules(torch.jit.script(torch.nn.Linear(1, 1))) == {}
    assert held_modules(torch.compile(torch.nn.Linear(1, 1))) == {}


def test_modules_whose_names_would_clash_are_all_held():
    class Loss:
        def __init__(self):
            self.nets = [torch.nn.Linear(1, 2)]
            self.nets_0 = torch.nn.Linear(1, 3)
            self.by_name = {"a.b": torch.nn.Linear(1, 4), "a": {"b": torch.nn.Linear(1, 5)}}

    loss = Loss()
    held = held_modules(loss)
    assert set(map(id, held.values())) == set(
        map(id, (loss.nets[0], loss.nets_0, *held_modules(loss.by_name).values()))
    )
    children = dict(LossOfModules(loss, held).named_children())
    assert {name: child.out_features for name, child in children.items()} == {
        "nets_0": 2,
        "nets_0_": 3,
        "by_name_a_b": 4,
        "by_name_a_b_": 5,
    }
