"""The checks of the test kit pass for correct components and fail for faulty ones."""

import itertools
import os
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, IterableDataset

from audiozen.testing import (
    check_dataset,
    check_entry_points,
    check_hooks,
    check_import,
    check_loss,
    check_model,
    check_signature,
)
from audiozen_core.hooks.marker import hookimpl
from tests.installed import install, site  # noqa: F401 - fixtures

# ------------------------------------------------------------------------------------------ entry points


HOOK = "from audiozen import hookimpl\nclass Hook:\n    @hookimpl\n"


def test_check_entry_points_passes_for_audiozen():
    assert len(check_entry_points("audiozen")) >= 20


@pytest.mark.parametrize(
    ("module", "groups", "message"),
    [
        ("1 / 0", {"model": {"acme_net": "acme:Net"}}, "ZeroDivisionError"),
        ("class Net: ...", {"model": {"acme_net": "acme:Net"}}, "is not a model"),
        ("class Net: ...", {"models": {"acme_net": "acme:Net"}}, "which AudioZEN does not read"),
        ("class Net: ...", {"metric": {"pesq": "acme:Net"}}, "is published by audiozen 0.1.0 and acme 1.0"),
        ("print(3)\nclass Net: ...", {"metric": {"acme_net": "acme:Net"}}, "output: 3"),
        ("class Net: ...", {"hooks": {"acme_net": "acme:Net"}}, "implements no hook"),
        (
            f"{HOOK}    async def on_epoch_end(self): ...",
            {"hooks": {"h": "acme:Hook"}},
            r"is async(?s:.*)acme\.py:4, in",
        ),
        (
            f"{HOOK}    def on_epoch_end(epoch): ...",
            {"hooks": {"h": "acme:Hook"}},
            r"has no `self`(?s:.*)acme\.py:4, in",
        ),
        ("class Net: ...", {}, "has no components"),
    ],
)
def test_check_entry_points_describes_the_fault(install, module, groups, message):  # noqa: F811
    install("acme", {"acme": module}, **groups)
    with pytest.raises(AssertionError, match=message):
        check_entry_points("acme")


def test_check_entry_points_fails_if_another_version_is_required(install):  # noqa: F811
    install("acme", {"acme": "class M: ..."}, requires="audiozen>=7", metric={"m": "acme:M"})
    with pytest.raises(AssertionError, match=r"acme 1\.0 requires audiozen>=7"):
        check_entry_points("acme")


# ------------------------------------------------------------------------------------------ signatures and hooks


def test_check_signature_requires_types_and_descriptions():
    class Typed(nn.Module):
        """A net.

        Args:
            bands: how many.
        """

        def __init__(self, bands: int = 4):
            super().__init__()

    class Untyped(Typed):
        """A net.

        Args:
            bands: how many.
        """

        def __init__(self, bands=4):
            super().__init__()

    class Undescribed(nn.Module):
        """A net."""

        def __init__(self, bands: int = 4):
            super().__init__()

    class AnyKeyword(nn.Module):
        """A net."""

        def __init__(self, **anything):
            super().__init__()
            self.given = anything

    check_signature(Typed, "model")
    for faulty, message in (
        (Untyped, "has no type"),
        (Undescribed, "does not describe `bands`"),
        (AnyKeyword, "any keyword"),
    ):
        with pytest.raises(AssertionError, match=message):
            check_signature(faulty)
    with pytest.raises(AssertionError, match="no docstring"):
        check_signature(lambda: None)


def hooks(**methods):
    return type("Hooks", (), {name: hookimpl(method) for name, method in methods.items()})


def test_check_hooks_fails_for_unknown_hooks_and_arguments():
    assert check_hooks(hooks(on_epoch_end=lambda self, epoch: None)) == {"on_epoch_end": "on_epoch_end"}
    with pytest.raises(AssertionError, match="did you mean `on_epoch_end`"):
        check_hooks(hooks(on_epoch_ends=lambda self: None))
    with pytest.raises(AssertionError, match=r"no argument `epok`\n = defined in: .*\n = help: did you mean `epoch`"):
        check_hooks(hooks(on_epoch_end=lambda self, epok: None))
    saves_only = hooks(on_epoch_end=lambda self: None)
    saves_only.state_dict = lambda self: {}
    with pytest.raises(AssertionError, match="not the other"):
        check_hooks(saves_only)


# ------------------------------------------------------------------------------------------ models


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        return self.norm(self.layer(x))


class HasStateOutsideStateDict(Net):
    """The attribute `mean` affects the output, but is not in the state dict."""

    def __init__(self):
        super().__init__()
        self.mean = 0.0

    def forward(self, x):
        if self.training:
            self.mean = float(x.mean()) + 1.0
        return super().forward(x) + self.mean


class HasUnusedWeight(Net):
    def __init__(self):
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(3))


class DividesByZero(Net):
    def forward(self, x):
        return super().forward(x) / 0


class NanInEvaluation(Net):
    def forward(self, x):
        return super().forward(x) if self.training else super().forward(x) * torch.nan


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (HasStateOutsideStateDict, "the output of the model differs after it was restored from a checkpoint"),
        (HasUnusedWeight, "the weight `unused` gets no gradient"),
        (DividesByZero, "the output of the model is not finite in training mode"),
        (NanInEvaluation, "the output of the model is not finite in evaluation mode"),
    ],
)
def test_check_model_fails_for_a_faulty_model(model, message):
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
        (lambda x, y: (x - y).square(), r"the loss has the shape \[2, 50\]; it must be a scalar"),
        (lambda x, y: x.square().mean().log(), "the loss is -inf for silence"),
        (lambda x, y: (x * y).sum().sqrt() * 0 + x.square().sum().sqrt() / x.square().sum(), "the loss is nan"),
        (lambda x, y: x.square().sum().sqrt(), "the gradient of the loss is not finite for silence"),
        (lambda x, y: (x.sign() * y).mean() + 0 * x.sum(), "the gradient of the loss is zero"),
        (lambda x, y: WrongGradient.apply(x - y), "the gradient of the loss differs from finite differences"),
    ],
)
def test_check_loss_fails_for_a_faulty_loss(loss, message):
    check_loss(nn.MSELoss(), 2, 50)
    with pytest.raises(AssertionError, match=message):
        check_loss(loss, 2, 50)


# ------------------------------------------------------------------------------------------ data sets


class Noise(Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return {"id": f"item {index}", "x": torch.randn(3)}


class HasUnseededGenerator(Noise):
    """Draws from a random generator of its own. The loader does not seed that generator in the workers."""

    def __init__(self):
        self.generator = random.Random(0)

    def __getitem__(self, index):
        return {"id": f"item {index}", "x": torch.tensor(self.generator.random())}


class FailsInWorkers(Noise):
    def __getitem__(self, index):
        if torch.utils.data.get_worker_info():
            raise OSError("no workers")
        return super().__getitem__(index)


class UsesGlobalGenerator(IterableDataset):
    """Draws from the global generator before the loader seeds it for the epoch."""

    def __init__(self):
        self.offset = torch.rand(())

    def __iter__(self):
        yield {"x": self.offset}


class Empty(IterableDataset):
    def __iter__(self):
        return iter(())


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (HasUnseededGenerator, "with 2 workers"),
        (FailsInWorkers, "no workers"),
        (UsesGlobalGenerator, "batch 0 of epoch 1 differs when the epoch is repeated"),
        (Empty, "has no batches"),
    ],
)
def test_check_dataset_fails_for_a_faulty_data_set(dataset, message):
    check_dataset(Noise)
    with pytest.raises(Exception, match=message):
        check_dataset(dataset)


class SingleItem(Dataset):
    """Has one item. The item is not collated."""

    def __init__(self, item):
        self.item = item

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return self.item

    @staticmethod
    def collate_fn(items):
        return items


@pytest.mark.parametrize("item", [np.arange(3), torch.tensor([1.0, torch.nan]), np.array([np.nan]), float("nan"), "a"])
def test_check_dataset_accepts_arrays_and_nan(item):
    check_dataset(lambda: SingleItem({"item": item}))


def test_check_dataset_fails_if_a_repeated_batch_has_another_type():
    items = itertools.cycle([{"x": 1}, 1])
    with pytest.raises(AssertionError, match="batch 0 of epoch 1 differs when the epoch is repeated"):
        check_dataset(lambda: SingleItem(next(items)))


# ------------------------------------------------------------------------------------------ imports


IMPORT_WITH_SIDE_EFFECTS = """
    import logging, os, random, threading, torch, warnings
    os.environ["OMP_NUM_THREADS"] = "1000"
    torch.set_num_threads(7)
    random.seed(0)
    open("cache.bin", "w").close()
    logging.basicConfig()
    warnings.simplefilter("ignore")
"""


def test_check_import_reports_changes_of_global_state(install):  # noqa: F811
    install("acme", {"acme_module": IMPORT_WITH_SIDE_EFFECTS})
    with pytest.raises(AssertionError) as caught:
        check_import("acme_module", seconds=1e9)
    assert (
        "the import of acme_module changes the environment, the filters of warnings, Python's random numbers, "
        "torch's number of threads, files in the working directory, the handlers of the root logger"
    ) in str(caught.value)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        pytest.param("print('hello')", "prints 'hello", marks=pytest.mark.slow),
        pytest.param("1 / 0", "fails:(?s:.*)ZeroDivisionError", marks=pytest.mark.slow),
        ("VALUE = sum(range(300_000))", r"takes 0\.\d s, more than 0"),
    ],
)
def test_check_import_fails_for_an_import_that_fails_prints_or_is_slow(install, module, message):  # noqa: F811
    install("acme", {"acme_module": module})
    with pytest.raises(AssertionError, match=message):
        check_import("acme_module", seconds=0)


# ------------------------------------------------------------------------------------------ the pytest plugin


@pytest.mark.slow
def test_pytest_plugin_provides_fixtures_without_importing_torch(tmp_path):
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
