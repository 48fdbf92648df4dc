"""The test kit passes what is right and notices what is wrong."""

import os
import random
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from audiozen.testing import (
    check_dataset,
    check_entry_points,
    check_hooks,
    check_import,
    check_loss,
    check_model,
    check_signature,
)
from audiozen_core.hooks.specs import hookimpl
from tests.installed import install, site  # noqa: F401 - fixtures

# ------------------------------------------------------------------------------------------ entry points


def test_our_own_entry_points_pass_the_check():
    assert len(check_entry_points("audiozen")) >= 20


@pytest.mark.parametrize(
    ("module", "groups", "message"),
    [
        ("1 / 0", {"model": {"acme_net": "acme:Net"}}, "ZeroDivisionError"),
        ("class Net: ...", {"model": {"acme_net": "acme:Net"}}, "is not a model"),
        ("class Net: ...", {"models": {"acme_net": "acme:Net"}}, "which AudioZEN does not read"),
        ("class Net: ...", {"metric": {"pesq": "acme:Net"}}, "is published by acme 1.0 and audiozen 0.1.0"),
        ("print(3)\nclass Net: ...", {"metric": {"acme_net": "acme:Net"}}, "output: 3"),
        ("class Net: ...", {"hooks": {"acme_net": "acme:Net"}}, "implements no hook"),
        ("class Net: ...", {}, "has no components"),
    ],
)
def test_a_wrong_entry_point_is_named(install, module, groups, message):  # noqa: F811
    install("acme", {"acme": module}, **groups)
    with pytest.raises(AssertionError, match=message):
        check_entry_points("acme")


def test_a_plugin_for_another_version_is_noticed(install):  # noqa: F811
    install("acme", {"acme": "class M: ..."}, requires="audiozen>=7", metric={"m": "acme:M"})
    with pytest.raises(AssertionError, match=r"acme 1\.0 requires audiozen>=7"):
        check_entry_points("acme")


# ------------------------------------------------------------------------------------------ signatures and hooks


def test_a_signature_has_to_be_typed_and_described():
    class Right(nn.Module):
        """A net.

        Args:
            bands: how many.
        """

        def __init__(self, bands: int = 4):
            super().__init__()

    class Untyped(Right):
        """A net.

        Args:
            bands: how many.
        """

        def __init__(self, bands=4):
            super().__init__()

    class Silent(nn.Module):
        """A net."""

        def __init__(self, bands: int = 4):
            super().__init__()

    class AnyKeyword(nn.Module):
        """A net."""

        def __init__(self, **anything):
            super().__init__()
            self.given = anything

    check_signature(Right, "model")
    for wrong, message in (
        (Untyped, "has no type"),
        (Silent, "does not describe `bands`"),
        (AnyKeyword, "any keyword"),
    ):
        with pytest.raises(AssertionError, match=message):
            check_signature(wrong)
    with pytest.raises(AssertionError, match="no docstring"):
        check_signature(lambda: None)


def hooks(**methods):
    return type("Hooks", (), {name: hookimpl(method) for name, method in methods.items()})


def test_hooks_have_to_exist():
    assert check_hooks(hooks(on_epoch_end=lambda self, epoch: None)) == {"on_epoch_end": "on_epoch_end"}
    with pytest.raises(AssertionError, match="did you mean `on_epoch_end`"):
        check_hooks(hooks(on_epoch_ends=lambda self: None))
    with pytest.raises(AssertionError, match=r"no argument `epok`\n = help: did you mean `epoch`"):
        check_hooks(hooks(on_epoch_end=lambda self, epok: None))
    half = hooks(on_epoch_end=lambda self: None)
    half.state_dict = lambda self: {}
    with pytest.raises(AssertionError, match="not the other"):
        check_hooks(half)


# ------------------------------------------------------------------------------------------ models


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(self.layer(x))


class KeepsOutside(Net):
    """Some of what it has learnt is in no state."""

    def __init__(self):
        super().__init__()
        self.mean = 0.0

    def forward(self, x):
        if self.training:
            self.mean = float(x.mean()) + 1.0
        return super().forward(x) + self.mean


class HasADeadWeight(Net):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(3))


class DividesByZero(Net):
    def forward(self, x):
        return super().forward(x) / 0


@pytest.mark.parametrize(
    ("model", "message"),
    [(KeepsOutside, "output differs"), (HasADeadWeight, "`unused` gets no gradient"), (DividesByZero, "not finite")],
)
def test_a_model_has_to_go_through_a_checkpoint(model, message):
    check_model(Net, torch.randn(8, 4))
    with pytest.raises(AssertionError, match=message):
        check_model(model, torch.randn(8, 4))


# ------------------------------------------------------------------------------------------ losses


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.square().mean()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x / x.numel()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda x, y: (x - y).square(), "not a scalar"),
        (lambda x, y: x.square().mean().log(), "for silence"),
        (lambda x, y: (x * y).sum().sqrt() * 0 + x.square().sum().sqrt() / x.square().sum(), "it is nan"),
        (lambda x, y: x.square().sum().sqrt(), "gradient is not finite for silence"),
        (lambda x, y: (x.sign() * y).mean() + 0 * x.sum(), "gradient is zero"),
        (lambda x, y: WrongGradient.apply(x - y), "not that of the loss"),
    ],
)
def test_a_loss_has_to_have_finite_and_true_gradients(loss, message):
    check_loss(nn.MSELoss(), 2, 50)
    with pytest.raises(AssertionError, match=message):
        check_loss(loss, 2, 50)


# ------------------------------------------------------------------------------------------ data sets


class Noise(Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return {"id": f"item {index}", "x": torch.randn(3)}


class OwnNumbers(Noise):
    """It draws from a generator that nobody seeds for it."""

    def __init__(self):
        self.generator = random.Random(0)

    def __getitem__(self, index):
        return {"id": f"item {index}", "x": torch.tensor(self.generator.random())}


class NotForWorkers(Noise):
    def __getitem__(self, index):
        if torch.utils.data.get_worker_info():
            raise OSError("no workers")
        return super().__getitem__(index)


@pytest.mark.parametrize(("dataset", "message"), [(OwnNumbers, "workers"), (NotForWorkers, "no workers")])
def test_a_data_set_has_to_give_the_same_batches_with_any_number_of_workers(dataset, message):
    check_dataset(Noise)
    with pytest.raises(Exception, match=message):
        check_dataset(dataset)


# ------------------------------------------------------------------------------------------ imports


MEDDLES = """
    import logging, os, random, threading, torch, warnings
    os.environ["ACME"] = "1"
    torch.set_num_threads(7)
    random.seed(0)
    open("cache.bin", "w").close()
    logging.basicConfig()
    warnings.simplefilter("ignore")
"""


def test_an_import_must_not_change_global_state(install):  # noqa: F811
    install("acme", {"acme_module": MEDDLES})
    with pytest.raises(AssertionError) as caught:
        check_import("acme_module", seconds=1e9)
    assert (
        "the import of acme_module changes the environment, files in the working directory, the filters of warnings, "
        "the handlers of the root logger, Python's random numbers, torch's number of threads"
    ) in str(caught.value)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("print('hello')", "prints 'hello"),
        ("1 / 0", "fails:(?s:.*)ZeroDivisionError"),
        ("VALUE = sum(range(300_000))", r"takes 0\.\d s, more than 0"),
    ],
)
def test_an_import_must_succeed_print_nothing_and_be_quick(install, module, message):  # noqa: F811
    install("acme", {"acme_module": module})
    with pytest.raises(AssertionError, match=message):
        check_import("acme_module", seconds=0)


# ------------------------------------------------------------------------------------------ the pytest plugin


def test_the_fixtures_exist_without_an_import_and_do_not_import_torch(tmp_path):
    (tmp_path / "test_acme.py").write_text(
        "import sys\n"
        "def test_nothing_heavy_is_imported():\n    assert 'torch' not in sys.modules\n"
        "def test_a_run(tiny_experiment):\n"
        "    outcome = tiny_experiment.set('trainer', max_epochs=1).run()\n"
        "    assert len(outcome.metrics('train/loss')) == 1\n"
        "    assert outcome.checkpoints == ['epoch_0001']\n"
        "    assert 'on_epoch_end' in outcome.hooks.names\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:hypothesispytest",
        str(tmp_path),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
