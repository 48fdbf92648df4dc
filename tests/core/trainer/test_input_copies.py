"""A network or a loss may change its inputs in place: nothing that is used afterwards changes."""

from __future__ import annotations

import copy
import functools
from collections import OrderedDict, namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from audiozen_core.data.loader import BatchLoader
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.input_copies import CopiesInputs, copy_inputs, copy_tensors
from tests.tiny_training import Pairs, TinyTrainer, make_loader, make_trainer, weights_of


class Doubles(nn.Module):
    """Doubles its input in place, then applies a linear layer."""

    def __init__(self, inplace: bool = True):
        super().__init__()
        self.linear = nn.Linear(4, 1)
        self.inplace = inplace

    def forward(self, x):
        if self.inplace:
            x.mul_(2.0)
            return self.linear(x)
        return self.linear(x * 2.0)


class Script(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, x):
        x.mul_(2.0)
        return self.linear(x)


class Wrapper(nn.Module):
    """Passes its inputs on, as DistributedDataParallel does."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)


def compiled_in_place():
    module = Doubles()
    module.compile(backend="eager")
    return module


NETWORKS = {
    "plain": Doubles,
    "compiled": lambda: torch.compile(Doubles(), backend="eager"),
    "compiled in place": compiled_in_place,
    "wrapped": lambda: Wrapper(Doubles()),
    # With a GPU, DataParallel copies its input there, so the negative control would fail.
    **({} if torch.cuda.is_available() else {"DataParallel": lambda: nn.DataParallel(Doubles())}),
    "scripted": lambda: torch.jit.script(Script()),
    "traced": lambda: torch.jit.trace(Script(), torch.ones(2, 4)),
    "frozen": lambda: torch.jit.freeze(torch.jit.script(Script().eval())),
}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_every_kind_of_network_leaves_its_input_as_it_is(make):
    unprotected, given = make(), torch.ones(2, 4)
    unprotected(given)
    assert given.sum() == 16.0  # negative control: without a copy the input is doubled
    network, given = make(), torch.ones(2, 4)
    copy_inputs(network)
    network(given)
    network(x=given)
    assert given.sum() == 8.0


class Streams(nn.Module):
    """Changes its first input in place, and the state it is given, or returns the new state."""

    def __init__(self, inplace: bool = True):
        super().__init__()
        self.linear = nn.Linear(4, 1)
        self.inplace = inplace

    def forward(self, frame, state):
        frame.mul_(2.0)
        new = state.add_(1.0) if self.inplace else state + 1.0
        return self.linear(frame), new


class Nested(Streams):
    def forward(self, frame, *, states):
        return super().forward(frame, states["all"][0])


STATEFUL = {
    "plain": (Streams, "state", lambda net, x, state: net(x, state)),
    "by name": (Streams, "state", lambda net, x, state: net(state=state, frame=x)),
    "nested": (Nested, "states", lambda net, x, state: net(x, states={"all": [state]})),
    "compiled": (
        lambda **kwargs: torch.compile(Streams(**kwargs), backend="eager"),
        "state",
        lambda net, x, state: net(x, state),
    ),
    "scripted": (lambda **kwargs: torch.jit.script(Streams(**kwargs)), "state", lambda net, x, state: net(x, state)),
    "wrapped": (lambda **kwargs: Wrapper(Streams(**kwargs)), "number 2", lambda net, x, state: net(x, state)),
}


@pytest.mark.parametrize(("make", "name", "call"), STATEFUL.values(), ids=STATEFUL)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_state_that_a_network_changes_in_place_is_named_once(make, name, call, capsys):
    for inplace in (False, True):
        trainer, state = TinyTrainer(Components({"": make(inplace=inplace)})), torch.zeros(2, 4)
        with torch.inference_mode():
            call(trainer.model, torch.ones(2, 4), torch.zeros(2, 4))
        for _ in range(3):
            call(trainer.model, torch.ones(2, 4), state)
        assert torch.equal(state, torch.zeros(2, 4))
        logged = capsys.readouterr().err
        assert logged.count("in place") == inplace
        if inplace:
            assert f"[model] changes its argument `{name}` in place" in logged
            assert "return the new state from `forward`" in logged


def test_the_first_input_may_be_changed_without_a_word(capsys):
    trainer = TinyTrainer(Components({"": Doubles()}))
    trainer.model(torch.ones(2, 4))
    trainer.model(x=torch.ones(2, 4))
    assert "in place" not in capsys.readouterr().err


class Batch(OrderedDict):
    """A mapping whose entries are attributes too."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        self.__dict__[key] = value


@dataclass(frozen=True)
class Record:
    wave: torch.Tensor
    name: str = "a"


Named = namedtuple("Named", "wave name")
WAVE = torch.arange(3.0)


@pytest.mark.parametrize(
    ("value", "wave_of"),
    [
        (WAVE, lambda it: it),
        ({"a": [WAVE]}, lambda it: it["a"][0]),
        ((WAVE, "x"), lambda it: it[0]),
        (Named(WAVE, "x"), lambda it: it.wave),
        (Batch(wave=WAVE), lambda it: it.wave),
        (Record(WAVE), lambda it: it.wave),
        (torch.max(torch.stack([WAVE, WAVE - 1]), 0), lambda it: it.values),
        (pack_sequence([WAVE]), lambda it: it.data),
    ],
    ids=["tensor", "nested", "tuple", "named tuple", "mapping", "dataclass", "result of torch", "packed sequence"],
)
def test_copies_are_of_the_same_class_and_share_no_memory(value, wave_of):
    made = copy_tensors(value)
    assert type(made) is type(value)
    assert torch.equal(wave_of(made), WAVE)
    wave_of(made).zero_()
    assert torch.equal(wave_of(value), torch.arange(3.0))


def test_what_has_no_tensor_is_passed_as_it_is():
    for value in (torch.Size([1, 2]), ("a", 1), None, "text", 3):
        assert copy_tensors(value) is value


def test_gradients_flow_through_the_copy():
    network, given = Doubles(), torch.ones(2, 4, requires_grad=True)
    copy_inputs(network)
    network(given).sum().backward()
    assert torch.equal(given.grad, (2 * network.linear.weight).expand(2, 4))


def test_network_with_two_trainers_copies_once():
    network = nn.Linear(4, 1)
    for _ in range(2):
        TinyTrainer(Components({"": network}))
    assert len(network._forward_pre_hooks) == 1


class Cached(Pairs):
    """Hands out the same tensors each time."""

    def __init__(self):
        super().__init__(8, noise=0.0)
        self.items = [super(Cached, self).__getitem__(index) for index in range(8)]

    def __getitem__(self, index):
        return self.items[index]


class Keeps:
    """Keeps the batch and a copy of it from before the step."""

    def __init__(self):
        self.before, self.kept, self.after = [], [], []

    @hookimpl
    def on_training_step_start(self, batch):
        self.before.append(copy.deepcopy(batch["x"]))
        self.kept.append(batch["x"])

    @hookimpl
    def on_training_step_end(self, batch):
        self.after.append(batch["x"])


def train(inplace, loss=None, cls=TinyTrainer):
    dataset, hook = Cached(), Keeps()
    made = [item["x"].clone() for item in dataset.items]
    trainer = make_trainer(cls=cls, model=lambda: Doubles(inplace), hooks={"keeps": hook}, max_epochs=3, loss=loss)
    # The batch is the sample itself, without a copy.
    loader = BatchLoader(dataset, batch_size=1, collate_fn=lambda samples: samples[0])
    trainer.train(loader, [loader])
    return trainer, hook, made, dataset


def test_network_that_changes_its_input_in_place_trains_like_one_that_does_not():
    (changes, hook, made, dataset), (keeps, *_) = train(inplace=True), train(inplace=False)
    assert torch.equal(weights_of(changes), weights_of(keeps))
    assert changes.progress.best_score == keeps.progress.best_score
    assert all(torch.equal(before, kept) for before, kept in zip(hook.before, hook.kept, strict=True))
    assert all(torch.equal(before, after) for before, after in zip(hook.before, hook.after, strict=True))
    assert all(torch.equal(old, item["x"]) for old, item in zip(made, dataset.items, strict=True))


def in_place_error(output, target):
    return target.sub_(output).square_().mean()


class InPlaceError(nn.Module):
    def forward(self, output, target):
        return in_place_error(output, target)


class CallsLoss(TinyTrainer):
    def _error(self, batch):
        loss = self.loss_function(self.model(batch["x"]), target=batch["y"])
        assert torch.equal(batch["y"], self.targets[batch["id"]])
        return loss


@pytest.mark.parametrize(
    "loss", [in_place_error, InPlaceError(), functools.partial(in_place_error)], ids=["function", "module", "partial"]
)
def test_loss_that_changes_its_target_in_place_trains_like_one_that_does_not(loss):
    targets = {item["id"]: item["y"].clone() for item in Cached().items}
    checks = type("Checks", (CallsLoss,), {"targets": targets})
    changes, *_, dataset = train(inplace=True, loss=loss, cls=checks)
    keeps, *_ = train(inplace=False, loss=nn.MSELoss(), cls=checks)
    torch.testing.assert_close(weights_of(changes), weights_of(keeps))
    assert all(torch.equal(item["y"], targets[item["id"]]) for item in dataset.items)


def test_protected_function_has_the_attributes_of_the_function():
    def loss(output, target):
        return output

    loss.domain = "magnitude"
    protected = make_trainer(loss=loss).loss_function
    assert isinstance(protected, CopiesInputs)
    assert protected.domain == "magnitude"
    assert getattr(protected, "other", None) is None
    assert copy.deepcopy(protected).domain == "magnitude"


@pytest.mark.parametrize("mode", ["validate", "test", "predict"])
def test_networks_of_all_suffixes_are_protected_in_every_mode(mode):
    seen = []

    class Two(TinyTrainer):
        def validation_step(self, batch, batch_idx, dataloader_idx):
            before = batch["x"].clone()
            self.models["g"](batch["x"])
            self.models["d"](x=batch["x"])
            seen.append(torch.equal(before, batch["x"]))
            return torch.zeros(())

        test_step = predict_step = validation_step

    trainer = Two(Components({"g": Doubles(), "d": Doubles()}))
    getattr(trainer, mode)([make_loader(4)])
    assert seen == [True]
