"""Every optimiser and scheduler of torch resumes from its saved state, bit for bit."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from audiozen_core.checkpoint.format.state_codec import flatten, unflatten
from tests.core.checkpoint.exactness import difference

OPTIMIZERS = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
)
SCHEDULERS: dict[str, Any] = {
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ConstantLR": lr_scheduler.ConstantLR,
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 7),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 2, 2),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.01, 0.1, step_size_up=2, mode="exp_range", gamma=0.9),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.9),
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, Warmup()),
    "LinearLR": lr_scheduler.LinearLR,
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 4, 4], 0.5),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, Warmup()),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=30, anneal_strategy="linear"),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 10, 2.0),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=0),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.LinearLR(o), lr_scheduler.CosineAnnealingLR(o, 5)], [3]
    ),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 2, 0.5),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.001, anneal_epochs=4),
}


class Warmup:
    """A learning-rate function with state. Schedulers include this state in their own state."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, epoch: int) -> float:
        self.calls += 1
        return 1.0 + 0.01 * self.calls


class Training:
    """Builds a small network with one optimiser and perhaps a scheduler."""

    def __init__(self, optimizer: str = "SGD", scheduler: str | None = None, **arguments: Any) -> None:
        torch.manual_seed(0)
        self.sparse = optimizer == "SparseAdam"
        self.model: torch.nn.Module = (
            torch.nn.Embedding(5, 3, sparse=True) if self.sparse else torch.nn.Linear(3, 2, bias=False)
        )
        kind = getattr(torch.optim, optimizer)
        self.optimizer = kind(self.model.parameters(), lr=0.05, **arguments)
        self.scheduler = SCHEDULERS[scheduler](self.optimizer) if scheduler else None

    def step(self, count: int) -> None:
        for index in range(count):
            self.optimizer.step(self._closure)
            if isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau):
                self.scheduler.step(1.0 + index)
            elif self.scheduler:
                self.scheduler.step()

    def _closure(self) -> torch.Tensor:
        self.optimizer.zero_grad()
        batch = torch.tensor([1, 2, 2]) if self.sparse else torch.linspace(-1, 1, 12).reshape(4, 3)
        loss = (self.model(batch) - 1).square().mean()
        loss.backward()
        return loss

    def state(self) -> dict[str, Any]:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        return state | ({"lr_scheduler": self.scheduler.state_dict()} if self.scheduler else {})

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["lr_scheduler"])


def text_round_trip(state: dict[str, Any]) -> dict[str, Any]:
    back = {}
    for owner, value in state.items():
        tensors, encoded = flatten(owner, value)
        text = json.dumps(encoded, allow_nan=False)
        back[owner] = unflatten(json.loads(text), {name: tensor.clone() for name, tensor in tensors.items()})
    return back


def assert_resumes(**arguments: Any) -> None:
    stopped = Training(**arguments)
    stopped.step(3)
    state = text_round_trip(stopped.state())
    assert difference(state, stopped.state()) is None
    resumed = Training(**arguments)
    resumed.load(state)
    stopped.step(3)
    resumed.step(3)
    assert difference(resumed.state(), stopped.state()) is None


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_resumes_bit_for_bit(name):
    assert_resumes(optimizer=name)


@pytest.mark.parametrize(
    "arguments",
    [
        {"optimizer": "SGD", "momentum": 0.9, "nesterov": True},
        {"optimizer": "Adam", "amsgrad": True, "foreach": True},
        {"optimizer": "AdamW", "fused": True},
        {"optimizer": "RMSprop", "centered": True, "momentum": 0.5},
        {"optimizer": "LBFGS", "line_search_fn": "strong_wolfe", "history_size": 3},
    ],
    ids=str,
)
def test_optimizers_with_optional_state_resume_bit_for_bit(arguments):
    assert_resumes(**arguments)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_resumes_bit_for_bit(name):
    assert_resumes(optimizer="SGD", scheduler=name, momentum=0.9)


def test_these_tests_cover_every_scheduler_of_torch():
    theirs = {
        name
        for name, kind in vars(lr_scheduler).items()
        if inspect.isclass(kind) and issubclass(kind, lr_scheduler.LRScheduler) and not name.startswith("_")
    }
    assert theirs - {"LRScheduler"} == set(SCHEDULERS) - {"SWALR"}


def test_these_tests_detect_a_resume_without_momentum():
    stopped, resumed = Training(momentum=0.9), Training(momentum=0.9)
    stopped.step(3)
    state = text_round_trip(stopped.state())
    state["optimizer"]["state"].clear()
    resumed.load(state)
    stopped.step(3)
    resumed.step(3)
    assert difference(resumed.state(), stopped.state())


def test_the_gradient_scaler_and_averaged_weights_are_restored():
    training = Training()
    average = torch.optim.swa_utils.AveragedModel(training.model)
    training.step(2)
    average.update_parameters(training.model)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    scaler.scale(torch.tensor(1.0))
    scaler.update(2.0)
    state = {"scaler": scaler.state_dict(), "ema": average.state_dict()}
    assert state["scaler"]["scale"] == 2.0
    assert difference(text_round_trip(state), state) is None


def test_tied_weight_is_stored_once_and_loads_into_a_tied_network():
    net = torch.nn.ModuleDict({"encoder": torch.nn.Linear(3, 3), "decoder": torch.nn.Linear(3, 3)})
    net["decoder"].weight = net["encoder"].weight
    tensors, _ = flatten("model", net.state_dict())
    assert len(tensors) == 3
    state = text_round_trip({"model": net.state_dict()})["model"]
    assert list(state) == list(net.state_dict())
    net.load_state_dict(state)
