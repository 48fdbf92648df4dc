"""A tensor that a network changes, but that is neither a parameter nor a buffer, is a warning: no checkpoint has it."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from audiozen_plugins.hooks.checkpoint import Checkpoint
from tests.tiny_training import TinyTrainer, make_loader, make_trainer

WARNING = "the training changes tensors that checkpoints don't contain"


class Keeps(nn.Linear):
    """Keeps a mean of its inputs in its own way."""

    def __init__(self):
        super().__init__(4, 1)
        self.mean = torch.zeros(4)

    def forward(self, x):
        if self.training:
            self.keep(x.detach().mean(0))
        return super().forward(x - self.mean)

    def keep(self, mean):
        raise NotImplementedError


class InPlace(Keeps):
    def keep(self, mean):
        self.mean.lerp_(mean, 0.1)


class Replaced(Keeps):
    def keep(self, mean):
        self.mean = 0.9 * self.mean + 0.1 * mean


class InData(Keeps):
    """Changes the tensor in the way of old code, which torch does not count."""

    def keep(self, mean):
        self.mean.data.mul_(0.9).add_(mean, alpha=0.1)


class InList(Keeps):
    def __init__(self):
        super().__init__()
        self.kept = {"means": [torch.zeros(1), self.mean]}

    def keep(self, mean):
        self.kept["means"][1].lerp_(mean, 0.1)


class ReplacedInDict(Keeps):
    def __init__(self):
        super().__init__()
        self.kept = {"mean": torch.zeros(4, dtype=torch.bfloat16)}

    def keep(self, mean):
        self.kept["mean"] = mean.bfloat16()


class InArray(Keeps):
    def __init__(self):
        super().__init__()
        self.kept = np.zeros(4)

    def keep(self, mean):
        self.kept += mean.numpy()


class Sparse(Keeps):
    def __init__(self):
        super().__init__()
        self.kept = (torch.eye(4).to_sparse(), torch.zeros(4, dtype=torch.complex64).conj(), torch.zeros(()))

    def keep(self, mean):
        self.kept[2].add_(1)


class Buffer(InPlace):
    def __init__(self):
        super().__init__()
        del self.mean
        self.register_buffer("mean", torch.zeros(4))


class Temporary(Replaced):
    def __init__(self):
        super().__init__()
        del self.mean
        self.register_buffer("mean", torch.zeros(4), persistent=False)


class Constant(Keeps):
    def __init__(self):
        super().__init__()
        self.tables = [torch.hann_window(8), {"sizes": np.arange(3)}]

    def keep(self, mean):
        self.tables[0] = torch.hann_window(8)  # the same values


class Lists(Constant):
    """Lists its own weights, and has a list that grows."""

    def __init__(self):
        super().__init__()
        self.all_weights = [self.weight, self.bias.requires_grad_(False)]
        self.losses = []

    def keep(self, mean):
        self.losses.append(mean)


class Cache(Constant):
    """Makes a tensor when it is first called, and remembers the last output."""

    def __init__(self):
        super().__init__()
        self.window = None

    def forward(self, x):
        self.window = torch.ones(4) if self.window is None else self.window
        self.last = super().forward(x * self.window)
        return self.last


class Last(nn.Linear):
    def __init__(self):
        super().__init__(2, 1)

    def forward(self, outputs):
        return super().forward(outputs[0])


class SavesItself(InPlace):
    def get_extra_state(self):
        return {"mean": self.mean}

    def set_extra_state(self, state):
        self.mean.copy_(state["mean"])


def old_norm(norm):
    def make():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # these are deprecated, and in many networks
            return norm(nn.Linear(4, 1))

    return make


def trained(folder, capsys, make, **options):
    trainer = make_trainer(
        folder,
        model=lambda: nn.Sequential(make(), nn.Identity()),
        hooks={"checkpoint": Checkpoint()},
        max_epochs=3,
        **options,
    )
    trainer.train(make_loader(), [make_loader(shuffle=False)])
    return [line for line in capsys.readouterr().err.splitlines() if WARNING in line]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (InPlace, "0.mean"),
        (Replaced, "0.mean"),
        (InData, "0.mean"),
        (InList, "0.kept['means'][1]"),
        (ReplacedInDict, "0.kept['mean']"),
        (InArray, "0.kept"),
        (Sparse, "0.kept[2]"),
    ],
)
def test_tensor_that_changes_is_named_in_one_warning(tmp_path, capsys, make, name):
    (warning,) = trained(tmp_path, capsys, make)
    assert f"`{name}` of [model]" in warning
    assert "register_buffer" in warning


def test_tensor_of_a_loss_is_named_too(tmp_path, capsys):
    class Loss(nn.MSELoss):
        def __init__(self):
            super().__init__()
            self.seen = torch.zeros(1)

        def forward(self, output, target):
            self.seen += 1
            return super().forward(output, target)

    class WithLoss(TinyTrainer):
        def _error(self, batch):
            return self.loss_function(self.model(batch["x"]), batch["y"])

    (warning,) = trained(tmp_path, capsys, Constant, loss=Loss(), cls=WithLoss)
    assert "`seen` of [loss_function]" in warning


@pytest.mark.parametrize(
    "make",
    [
        *(Buffer, Temporary, Constant, Cache, SavesItself, Lists),
        pytest.param(old_norm(nn.utils.weight_norm), id="weight norm"),
        pytest.param(old_norm(nn.utils.spectral_norm), id="spectral norm"),
        pytest.param(lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 1)), id="parametrized"),
        pytest.param(lambda: prune.l1_unstructured(nn.Linear(4, 1), "weight", 0.5), id="pruned"),
        pytest.param(lambda: nn.BatchNorm1d(4), id="batch norm"),
        pytest.param(lambda: nn.Sequential(nn.LSTM(4, 2), Last()), id="lstm"),
    ],
)
def test_what_is_saved_or_need_not_be_is_no_warning(tmp_path, capsys, make):
    assert not trained(tmp_path, capsys, make)


def test_change_is_noticed_after_a_checkpoint_of_the_start(tmp_path, capsys):
    """A finetuning saves before its first step."""
    trainer = make_trainer(tmp_path, model=InPlace, hooks={"checkpoint": Checkpoint()}, max_epochs=1)
    trainer.start_is_unsaved = True
    trainer.train(make_loader())
    assert capsys.readouterr().err.count(WARNING) == 1
