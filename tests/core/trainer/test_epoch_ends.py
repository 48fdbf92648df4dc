"""What steps, the ends of epochs and hooks return is recorded, or an error or a warning says why not."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from audiozen_core.errors import HookError, RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_plugins.hooks.clip_grad_norm import ClipGradNorm
from tests.tiny_training import TinyTrainer, make_loader, make_trainer


class Records:
    def __init__(self):
        self.found = {}

    @hookimpl
    def on_log(self, metrics):
        self.found |= metrics


def trained(step=None, **methods):
    """Trains two epochs with a step that returns further values. Returns the newest value of each record."""

    def training_step(self, batch, batch_idx):
        return {"loss": self._error(batch), **(step or {})}

    records = Records()
    cls = type("Mine", (TinyTrainer,), {"training_step": training_step, **methods})
    trainer = make_trainer(
        cls=cls, max_epochs=2, log_interval=1, plot_norm=True, hooks={"clip": ClipGradNorm(), "records": records}
    )
    trainer.train(make_loader(), [make_loader()])
    return records.found


SCALARS = {
    "int": 2,
    "float": 0.5,
    "np.float32": np.float32(0.5),
    "np.float64": np.float64(0.25),
    "np.int64": np.int64(7),
    "array": np.array(1.5, dtype=np.float32),
    "one": np.ones((1, 1)),
    "tensor": torch.tensor([[3.0]]),
    "integer": torch.tensor(4),
    "nan": math.nan,
    "large": 10**400,
    "negative": -(10**400),
    "fraction": Fraction(10**400, 3),
}


def as_float(value):
    """A number that is too large for a float is infinite."""
    try:
        return float(np.asarray(value).item())
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def test_every_real_number_of_a_step_is_recorded(capsys):
    found = trained(SCALARS)
    for name, value in SCALARS.items():
        for prefix in ("train", "step"):
            assert found[f"{prefix}/{name}"] == pytest.approx(as_float(value), nan_ok=True)
            assert type(found[f"{prefix}/{name}"]) is float
    assert "not recorded" not in capsys.readouterr().err


def test_value_that_is_not_recorded_is_reported_once(capsys):
    others = {
        "band": torch.ones(3),
        "levels": [1.0, 2.0],
        "word": "abc",
        "nested": {"a": 1.0},
        "wave": np.ones(2),
        "phase": 1j,
        "spectrum": torch.ones((), dtype=torch.complex64),
        "bins": np.complex64(1),
    }
    found = trained(others)
    log = capsys.readouterr().err
    for name in others:
        assert f"train/{name}" not in found
        assert log.count(f"returns `{name}`, ") == 1
    assert "`band`, a Tensor of shape [3], which is not recorded" in log


def test_none_and_booleans_are_left_out_without_a_word(capsys):
    found = trained({"missing": None, "flag": True, "other": np.bool_(True), "mask": torch.ones(1) > 0})
    assert {"train/missing", "train/flag", "train/other", "train/mask"}.isdisjoint(found)
    assert "not recorded" not in capsys.readouterr().err


def test_scalar_of_the_trainer_wins_over_the_learning_rate_and_the_norm():
    found = trained({"lr": 7.0, "grad_norm": 9.0})
    assert [found[f"{prefix}/{name}"] for prefix in ("train", "step") for name in ("lr", "grad_norm")] == [7, 9, 7, 9]
    without = trained()
    assert without["train/lr"] == pytest.approx(0.05)
    assert without["train/grad_norm"] != 9
    ended = trained(training_epoch_end=lambda self, outputs: {"lr": 3.0})
    assert (ended["train/lr"], ended["step/lr"]) == (3.0, pytest.approx(0.05))


@pytest.mark.parametrize(
    ("method", "result", "message"),
    [
        ("training_epoch_end", None, "returned None, which is not a dict of numbers"),
        ("training_epoch_end", 1.0, "returned a float, which is not a dict of numbers"),
        ("training_epoch_end", {"a": "x"}, "returned values that are not numbers: `a` is a str"),
        ("training_epoch_end", {"a": {"b": 1.0}}, "returned values that are not numbers: `a` is a dict"),
        ("validation_epoch_end", None, "returned None, which is not a dict of numbers"),
        ("validation_epoch_end", "0.5", "returned a str, which is not a dict of numbers"),
        ("validation_epoch_end", (1.0, {"a": 1}), "returned a tuple, which is not a dict of numbers"),
        ("validation_epoch_end", torch.ones(2), "returned a Tensor of shape [2], which is not a dict of numbers"),
        ("validation_epoch_end", {"score": 1.0, "per": [1.0]}, "returned values that are not numbers: `per` is a list"),
        ("validation_epoch_end", True, "returned a bool, which is not a dict of numbers"),
        ("validation_epoch_end", torch.tensor(True), "returned a Tensor of shape [] of bool, which is not a dict"),
        ("validation_epoch_end", {"score": np.bool_(True)}, "values that are not numbers: `score` is a bool"),
        ("training_epoch_end", {"a": np.array([True])}, "values that are not numbers: `a` is a ndarray of shape [1]"),
        ("test_epoch_end", {"a": False}, "returned values that are not numbers: `a` is a bool"),
        ("test_epoch_end", {"a": 1j}, "returned values that are not numbers: `a` is a complex"),
        ("test_epoch_end", 3.0, "returned a float, which is not a dict of numbers"),
        ("test_epoch_end", {"a": "b"}, "returned values that are not numbers: `a` is a str"),
    ],
    ids=str,
)
def test_result_that_is_no_scalar_names_the_method(method, result, message):
    trainer = make_trainer(cls=type("Mine", (TinyTrainer,), {method: lambda self, outputs: result}), max_epochs=1)
    with pytest.raises(RunError) as caught:
        trainer.train(make_loader(), [make_loader()]) if method != "test_epoch_end" else trainer.test([make_loader()])
    assert message in caught.value.message
    assert "<lambda>" in caught.value.message
    assert caught.value.remedy.startswith("return a dict of numbers by name")


@pytest.mark.parametrize(
    ("result", "score"),
    [
        (10**400, math.inf),
        ({"score": -(10**400)}, -math.inf),
        (np.float32(0.5), 0.5),
        (torch.tensor([2.0]), 2.0),
        (3, 3.0),
        ({"score": np.ones(1), "n": np.int32(4)}, 1.0),
    ],
)
def test_score_may_be_any_real_number(result, score):
    found = trained(validation_epoch_end=lambda self, outputs: result)
    assert found["validate/score"] == score
    assert found.get("validate/n", 4) == 4


def test_test_without_scalars_returns_none():
    cls = type("Mine", (TinyTrainer,), {"test_epoch_end": lambda self, outputs: None})
    assert make_trainer(cls=cls).test([make_loader()]) == {}


def test_number_of_a_hook_that_is_too_large_for_a_float_is_infinite():
    class Adds:
        @hookimpl
        def epoch_scalars(self):
            return {"large": 10**400}

    records = Records()
    make_trainer(max_epochs=1, hooks={"adds": Adds(), "records": records}).train(make_loader())
    assert records.found["train/large"] == math.inf


@pytest.mark.parametrize("hook", ["epoch_scalars", "evaluation_scalars"])
@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"level": torch.tensor(True)}, "a dict in which `level` is a `torch.Tensor`"),
        ({"level": "loud"}, "a dict in which `level` is `'loud'`"),
        (0.5, "`0.5`"),
        ([("level", 1.0)], "a `list`"),
    ],
)
def test_result_of_a_hook_that_is_no_scalar_names_the_hook(hook, result, message):
    plugin = type("Adds", (), {hook: hookimpl(lambda self: result, specname=hook)})()
    trainer = make_trainer(max_epochs=1, hooks={"adds": plugin})
    with pytest.raises(HookError) as caught:
        trainer.train(make_loader(), [make_loader()])
    assert f"hook plugin `adds` (default) answered `{hook}` with {message}, which is not an answer" in str(caught.value)


def test_hook_may_return_nothing_or_numbers_of_any_kind():
    class Adds:
        @hookimpl
        def epoch_scalars(self):
            return {"level": np.float32(0.5)}

        @hookimpl
        def evaluation_scalars(self):
            return None

    records = Records()
    make_trainer(max_epochs=1, hooks={"adds": Adds(), "records": records}).train(make_loader(), [make_loader()])
    assert records.found["train/level"] == 0.5
