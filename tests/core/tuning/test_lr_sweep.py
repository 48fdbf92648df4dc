"""The range test takes the steps of the experiment, at the rates that it says, and leaves nothing behind."""

import math
import re

import pytest
import torch

from audiozen_core.errors import AudioZenError, ConfigError, RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.hooks.nonfinite import NonFiniteError
from audiozen_core.tuning.lr_curve import rates_between
from audiozen_core.tuning.lr_sweep import run_range_test
from tests.tiny_experiment import TinyExperiment

PARTS = """
import json
from pathlib import Path


class SGD(torch.optim.SGD):
    # Writes down the rates of each step.
    def step(self, closure=None):
        with Path(__file__).with_name("rates.jsonl").open("a") as file:
            print(json.dumps([float(group["lr"]) for group in self.param_groups]), file=file)
        return super().step(closure)


class NoRate(torch.optim.SGD):
    def __init__(self, params):
        super().__init__(params, lr=0.1)
        del self.defaults["lr"]


class Net(nn.Linear):
    def __init__(self):
        super().__init__(4, 1)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)


class Breaks(Trainer):
    # Its loss is NaN or an error for large weights.
    def __init__(self, components, *, limit: float = 3.0, error: bool = False, **args):
        super().__init__(components, **args)
        self.limit, self.error = limit, error

    def training_step(self, batch, batch_idx):
        far = float(self.model.weight.detach().abs().max()) > self.limit
        if far and self.error:
            raise ValueError("the weights are too large")
        return {"loss": super().training_step(batch, batch_idx)["loss"] * (float("nan") if far else 1.0)}


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([Data()[index] for index in range(6)])


class InOrder(torch.utils.data.Sampler):
    # An epoch has all data many times, because an epoch of one batch would take longer.
    def __init__(self, data_source, size: int):
        self.batches = [list(range(first, first + size)) for first in range(0, 6, size)] * 21

    def __iter__(self):
        return iter(self.batches)

    def __len__(self):
        return len(self.batches)


class Spy:
    @hookimpl
    def on_run_start(self, trainer):
        (trainer.folder.parent).mkdir(exist_ok=True)
        (trainer.folder.parent / "spy").write_text("was here")


class SeesNothing(Spy):
    affects_training = False

    @hookimpl
    def on_run_start(self, trainer):
        raise AssertionError("this hook does not affect training")
"""
# All data in each batch, so that a few lines of the test can take the same steps.
WHOLE = 'dataloader.batch_sampler = {path = "parts.InOrder", args.size = 6}'
EXACT = (
    ('path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}', 'path = "parts.Net"'),
    ('path = "torch.optim.Adam"', 'path = "parts.SGD"'),
    ('[dataset]\npath = "parts.Data"\ndataloader.batch_size = 2', f'[dataset]\npath = "parts.Data"\n{WHOLE}'),
)
IN_PIECES = (WHOLE, WHOLE.replace("6", "2"))
# Afterwards the loss is so small that only rounding is left of it.
EXACT_STEPS = 40


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


def sweep(tiny, *changes, **options):
    options = {"least": 1e-4, "most": 10.0, "steps": 60, **options}
    return run_range_test(Experiment.load(tiny.write(*changes)), **options)


def steps_by_hand(rates, *, bias=1.0):
    """Returns the loss before the first step, and after each one, of gradient descent on all data."""
    x = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    y = x.sum(1, keepdim=True)
    weight, shift = torch.zeros(1, 4), torch.zeros(1)
    losses = []
    for rate in (*rates, 0.0):
        error = x @ weight.T + shift - y
        losses.append(float(error.square().mean()))
        weight = weight - rate * 2 * (error * x).mean(0, keepdim=True)
        shift = shift - bias * rate * 2 * error.mean(0)
    return losses


def rates_of(tiny):
    path = tiny.folder / "rates.jsonl"
    return [[float(rate) for rate in re.findall(r"[\d.e+-]+", line)] for line in path.read_text().splitlines()]


def test_each_loss_is_the_one_after_a_step_with_its_rate(tiny):
    curve = sweep(tiny, *EXACT).curve
    before, *after = steps_by_hand(curve.rates)
    assert EXACT_STEPS < len(curve.losses) < 60  # the loss diverges
    assert curve.start == pytest.approx(before, rel=1e-5)
    assert curve.losses[:EXACT_STEPS] == pytest.approx(after[:EXACT_STEPS], rel=1e-4)
    assert curve.losses[1:EXACT_STEPS] != pytest.approx(after[: EXACT_STEPS - 1], rel=1e-4)  # one step late


def test_suggestion_is_far_below_the_largest_stable_rate(tiny):
    test = sweep(tiny, *EXACT)
    x = torch.cat([torch.randn(6, 4, generator=torch.Generator().manual_seed(1)), torch.ones(6, 1)], dim=1)
    limit = 2 / float(torch.linalg.eigvalsh(2 * x.T @ x / 6).max())  # of gradient descent on a quadratic function
    assert "diverges" in test.ended_early
    assert limit / 30 < test.suggestion.rate < limit / 3


def test_accumulated_batches_are_one_step_and_one_loss(tiny):
    changes = (*EXACT, IN_PIECES, ("max_epochs = 2", "max_epochs = 2\ngradient_accumulation_steps = 3"))
    curve = sweep(tiny, *changes).curve
    _, *after = steps_by_hand(curve.rates)
    assert curve.losses[:EXACT_STEPS] == pytest.approx(after[:EXACT_STEPS], rel=1e-4)


def test_the_rates_are_those_that_the_optimizer_uses(tiny):
    curve = sweep(tiny, *EXACT, ("max_epochs = 2", "max_epochs = 2\nmax_steps = 3"), most=0.01).curve
    assert curve.rates == pytest.approx(rates_between(1e-4, 0.01, 60))
    used = [rate for [rate] in rates_of(tiny)]
    assert used == pytest.approx([*curve.rates, curve.rates[-1]])  # the last step only measures
    assert len(curve.losses) == 60


GROUPS = ("args.lr = 0.1", 'args.lr = 0.1\n[[optimizer.groups]]\nmatch = "bias"\nlr = 0.02')


def test_groups_keep_the_ratio_of_their_rates(tiny):
    test = sweep(tiny, *EXACT, GROUPS)
    assert test.groups == {"lr_bias": pytest.approx(0.2)}
    _, *after = steps_by_hand(test.curve.rates, bias=0.2)
    assert test.curve.losses[:EXACT_STEPS] == pytest.approx(after[:EXACT_STEPS], rel=1e-4)


@pytest.mark.parametrize(
    "scheduler",
    [
        'path = "torch.optim.lr_scheduler.OneCycleLR"\nargs = {max_lr = 0.1, total_steps = 6}\ninterval = "step"',
        'path = "warmup_linear"\nargs.warmup_steps = 4',
        'path = "torch.optim.lr_scheduler.ExponentialLR"\nargs.gamma = 0.1',
    ],
)
def test_the_scheduler_is_off(tiny, scheduler):
    plain = sweep(tiny, *EXACT).curve.losses
    (tiny.folder / "rates.jsonl").unlink()
    test = sweep(tiny, *EXACT, ("[dataset]", f"[lr_scheduler]\n{scheduler}\n[dataset]"))
    assert test.curve.losses == plain
    assert [rate for [rate] in rates_of(tiny)][:60] == pytest.approx(test.curve.rates[: len(plain) + 1])


@pytest.mark.parametrize(
    "change",
    [
        ("max_epochs = 2", "max_epochs = 2\nclip_grad_norm_value = 0.01"),
        ('device = "cpu"', 'device = "cpu"\nuse_amp = true'),
    ],
)
def test_hooks_that_affect_the_training_take_part(tiny, change):
    assert sweep(tiny, *EXACT, change).curve.losses[:20] != sweep(tiny, *EXACT).curve.losses[:20]


def test_hooks_that_do_not_affect_the_training_are_off_and_others_write_elsewhere(tiny):
    hooks = '[[hooks]]\npath = "parts.SeesNothing"\n[[hooks]]\npath = "parts.Spy"\n[dataset]'
    sweep(tiny, *EXACT, ("[dataset]", hooks))
    assert not (tiny.folder / "exp").exists()


def contents(folder):
    return {
        path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*") if ".pyc" not in path.name
    }


def test_nothing_of_a_run_changes(tiny):
    tiny.run()
    before = contents(tiny.folder / "exp")
    assert len(before) > 5
    toml = (tiny.folder / "tiny.toml").read_bytes()
    sweep(tiny)
    assert contents(tiny.folder / "exp") == before
    assert (tiny.folder / "tiny.toml").read_bytes() == toml


def test_two_tests_have_the_same_numbers_and_another_seed_has_others(tiny):
    first, second = (sweep(tiny, most=0.1).curve.losses for _ in range(2))
    assert first == second
    assert sweep(tiny, ('device = "cpu"', 'device = "cpu"\nseed = 5'), most=0.1).curve.losses != first


def test_a_loss_that_is_not_finite_ends_the_test(tiny):
    test = sweep(tiny, *EXACT, ("parts.Trainer", "parts.Breaks"), ("max_epochs = 2", 'on_nonfinite = "skip"'))
    assert "a loss or a gradient was not finite after a step with" in test.ended_early
    assert all(map(math.isfinite, test.curve.losses))
    assert test.suggestion.rate == pytest.approx(test.curve.rates[test.suggestion.lowest] / 10)


def test_a_loss_that_is_never_finite_is_an_error(tiny):
    with pytest.raises(NonFiniteError):
        sweep(tiny, *EXACT, ("parts.Trainer", "parts.Breaks"), ("max_epochs = 2", "limit = -1.0"))


def test_another_error_names_the_rate(tiny):
    with pytest.raises(AudioZenError) as error:
        sweep(tiny, *EXACT, ("parts.Trainer", "parts.Breaks"), ("max_epochs = 2", "error = true"))
    assert "the weights are too large" in str(error.value)
    assert re.search(r"learning rate: [\d.]+, in step \d+ of 60", str(error.value))


def test_a_stream_is_read_again_when_it_ends(tiny):
    change = ('[dataset]\npath = "parts.Data"', '[dataset]\npath = "parts.Stream"')
    assert len(sweep(tiny, change, most=0.1).curve.losses) == 60


SECOND = """
[model_b]
path = "torch.nn.Linear"
args = {in_features = 4, out_features = 1}
[optimizer_b]
path = "torch.optim.Adam"
[dataset]"""


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ([("[dataset]", SECOND)], {}, r"several optimisers, \[optimizer\] and \[optimizer_b\]"),
        ([], {"least": 0.1, "most": 0.1}, "can't rise from 0.1 to 0.1"),
        ([], {"least": 0.0}, "can't rise from 0 to 10"),
        ([], {"least": math.nan}, "can't rise from nan"),
        ([], {"most": math.inf}, "to inf"),
        ([], {"steps": 0}, "a range test of 0 steps"),
        (
            [("args.lr = 0.1", ""), ("torch.optim.Adam", "parts.NoRate")],
            {},
            r"\[optimizer\] NoRate has no learning rate",
        ),
        ([("args.lr = 0.1", "args.lr = 0.0")], {}, r"\[optimizer\] has the learning rate 0"),
    ],
    ids=str,
)
def test_what_can_not_be_tested_is_an_error_before_the_training(tiny, changes, options, message):
    with pytest.raises(RunError, match=message) as error:
        sweep(tiny, *changes, on_step=lambda *_: pytest.fail("it trains"), **options)
    assert error.value.remedy


def test_several_processes_are_refused(tiny, monkeypatch):
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(RunError, match="needs a single process, but this is one of 2"):
        sweep(tiny)


def test_an_experiment_without_training_data_is_refused(tiny):
    with pytest.raises(ConfigError, match=r"\[dataset\]"):
        sweep(tiny, ('[dataset]\npath = "parts.Data"\ndataloader.batch_size = 2\n', ""))
