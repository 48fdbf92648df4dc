"""What a hook returns is checked where it comes back, and the error says who returned what."""

import contextlib
import inspect
import json
import warnings
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from audiozen_core.errors import HookError
from audiozen_core.hooks import specs
from audiozen_core.hooks.answers import answer_fits, is_number
from audiozen_core.hooks.checks import HOOK_NAMES
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.scalars import as_scalar
from audiozen_core.hooks.spec_lookup import OWN, first_answer_counts, return_annotation
from tests.tiny_training import make_loader, make_trainer, weights_of

ANSWERED = [hook for hook in HOOK_NAMES if first_answer_counts(OWN[hook])]
COLLECTED = ["step_scalars", "epoch_scalars", "evaluation_scalars"]
LISTENERS = [hook for hook in HOOK_NAMES if return_annotation(OWN[hook]) is None]


def answering(hook, answer, **options):
    """Makes a plugin that answers a hook. Its wrapper lets the others run first."""

    def plain(self):
        return answer

    def around(self):
        yield
        return answer

    return type("Answers", (), {hook: hookimpl(**options)(around if options else plain)})()


def call(hook, *plugins):
    """Calls a hook with None for every argument."""
    arguments = dict.fromkeys(list(inspect.signature(getattr(specs.Hooks, hook)).parameters)[1:])
    if "metrics" in arguments:
        arguments["metrics"] = {}
    lifecycle = Lifecycle(plugins)
    return getattr(lifecycle, hook)(**arguments)


RIGHT = {
    "skip_batch": [True],
    "backward": [True],
    "optimizer_step": [True],
    "rollback": [True],
    "autocast": [contextlib.nullcontext(), torch.no_grad()],
    "on_nonfinite": ["skip", "rollback"],
    "stop_reason": ["enough"],
    "stop_within_epoch_reason": ["enough"],
    "skip_checkpoint_reason": ["too early"],
}
WRONG = {
    "skip_batch": ["no", 0, 1, torch.tensor(True), [True]],
    "backward": ["yes", 1, torch.tensor(0.5)],
    "optimizer_step": [0, 0.0, "stepped"],
    "rollback": ["done", object()],
    "autocast": [5, True, torch.float16, contextlib.nullcontext],
    "on_nonfinite": ["Skip", True, "stop", ["skip"], ""],
    "stop_reason": [False, True, 0, 3, ["enough"], b"enough", torch.tensor(1)],
    "stop_within_epoch_reason": [False, 3],
    "skip_checkpoint_reason": [True, 7],
}


def test_the_tables_above_have_every_hook_with_an_answer():
    assert set(RIGHT) == set(WRONG) == set(ANSWERED)
    assert len(LISTENERS) > 15
    assert {*ANSWERED, *LISTENERS, *COLLECTED} | {"on_component_built"} == set(HOOK_NAMES)


@pytest.mark.parametrize("wrapper", [False, True])
@pytest.mark.parametrize("hook", ANSWERED)
def test_right_answers_come_back_unchanged(hook, wrapper):
    options = {"wrapper": True} if wrapper else {}
    for answer in RIGHT[hook]:
        assert call(hook, Plugin("a", answering(hook, answer, **options))) is answer
    assert call(hook, Plugin("a", answering(hook, None, **options))) is None


@pytest.mark.parametrize("wrapper", [False, True])
@pytest.mark.parametrize("hook", ANSWERED)
def test_wrong_answers_are_errors(hook, wrapper):
    options = {"wrapper": True} if wrapper else {}
    for answer in WRONG[hook]:
        plugin = Plugin("acme", answering(hook, answer, **options), "exp.toml:3", "acme-hooks")
        with pytest.raises(HookError, match=rf"`acme` of acme-hooks \(exp.toml:3\) answered `{hook}` with") as error:
            call(hook, plugin)
        assert (
            f"`{type(answer).__name__}`" in error.value.message
            or repr(answer) in error.value.message
            or (f"{type(answer).__module__}.{type(answer).__qualname__}" in error.value.message)
        )


def test_error_names_the_line_the_answer_and_what_is_wanted():
    class Stops:
        @hookimpl
        def stop_reason(self):
            return False

    line = inspect.getsourcelines(Stops.stop_reason)[1] + 1
    with pytest.raises(HookError) as error:
        call("stop_reason", Plugin("stops", Stops(), "exp.toml:3", "acme-hooks"))
    assert error.value.message == (
        "hook plugin `stops` of acme-hooks (exp.toml:3) answered `stop_reason` with `False`, which is not an answer of "
        "this hook"
    )
    where, wanted = error.value.notes
    assert where.startswith(f"defined in: {Path(__file__)}:{line}, in test_error_names_the_line")
    assert where.endswith("Stops.stop_reason")
    assert wanted == "wanted: The reason to stop, as text for messages, or None to continue."
    assert "`str | None`" in error.value.remedy


@pytest.mark.parametrize("hook", COLLECTED)
def test_scalars_are_names_with_numbers(hook):
    arguments = dict.fromkeys(list(inspect.signature(getattr(specs.Hooks, hook)).parameters)[1:])

    def collect(answer):
        return Lifecycle([Plugin("a", answering(hook, answer))]).added_scalars(hook, (), **arguments)

    for number in (1, 0.5, np.float32(2), torch.tensor(3.0), float("nan")):
        assert str(collect({"mine": number})["mine"]) == str(float(number))
    assert collect({}) == collect(None) == {}
    for answer in (0.5, [("mine", 0.5)], {"mine": "high"}, {"mine": None}, {"mine": True}, {1: 0.5}, torch.ones(2)):
        with pytest.raises(HookError, match=f"answered `{hook}` with"):
            collect(answer)
    with pytest.raises(HookError, match=f"answered `{hook}` with a dict in which `mine` is a `torch.Tensor`"):
        collect({"mine": torch.ones(2)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert collect({"mine": torch.ones(1, requires_grad=True)}) == {"mine": 1.0}
    with pytest.raises(HookError, match=f"the scalar `mine` that .*`a`.* adds in `{hook}` can't be read: RuntimeError"):
        collect({"mine": torch.ones(1, device="meta")})


@pytest.mark.parametrize("hook", LISTENERS)
def test_a_value_that_a_listener_returns_is_an_error(hook):
    assert call(hook, Plugin("a", answering(hook, None))) == []
    for value in (True, False, 0, "stop", []):
        with pytest.raises(HookError, match=f"returned .* from `{hook}`, but this hook must not return a value"):
            call(hook, Plugin("a", answering(hook, value)))


def test_the_wrapper_of_a_listener_may_return_what_it_was_given():
    class Around:
        @hookimpl(wrapper=True)
        def on_epoch_end(self):
            return (yield)

    assert call("on_epoch_end", Plugin("a", Around())) == []
    assert call("on_epoch_end", Plugin("a", answering("on_epoch_end", None, wrapper=True))) is None
    with pytest.raises(HookError, match="returned `True` from `on_epoch_end`"):
        call("on_epoch_end", Plugin("a", answering("on_epoch_end", True, wrapper=True)))


@pytest.mark.parametrize(
    ("hook", "nothing", "answer"),
    [("skip_batch", False, True), ("optimizer_step", False, True), ("stop_reason", "", "enough")],
)
def test_false_and_an_empty_text_let_the_other_hooks_decide(hook, nothing, answer):
    first, second = Plugin("a", answering(hook, nothing)), Plugin("b", answering(hook, answer))
    assert call(hook, first, second) is answer
    assert call(hook, first) is None


def test_the_answer_of_a_component_hook_may_be_any_object():
    plugin = Plugin("a", type("Wraps", (), {"on_component_built": hookimpl(lambda self, component: component + 1)})())
    assert Lifecycle([plugin]).wrap_component("model", 5) == 6


def test_numbers_and_unions_fit_as_their_annotations_say(monkeypatch):
    monkeypatch.setattr(specs.Hooks.stop_reason, "__annotations__", {"return": "float | int | list[str] | None"})
    answer_fits.cache_clear()
    fits = answer_fits(OWN["stop_reason"])
    assert [fits(value) for value in (1, 0.5, ["a"], True, "a", (1,))] == [True, True, True, False, False, False]
    answer_fits.cache_clear()


# ------------------------------------------------------------------------------------------ in a training


@pytest.mark.parametrize(
    ("hook", "answer"),
    [
        ("stop_reason", False),
        ("backward", "yes"),
        ("autocast", 5),
        ("skip_batch", "no"),
        ("optimizer_step", 0),
        ("on_training_step_end", True),
    ],
)
def test_a_wrong_answer_ends_a_training_before_it_changes_anything(hook, answer):
    trainer = make_trainer(hooks={"mine": answering(hook, answer)}, max_epochs=1)
    with pytest.raises(HookError, match=f"hook plugin `mine` .*`{hook}`"):
        trainer.train(make_loader(8))


def test_a_predicate_that_is_false_does_not_hide_the_other_hooks():
    class Steps:
        steps = 0

        @hookimpl
        def optimizer_step(self, optimizer):
            self.steps += 1
            optimizer.step()
            return True

    steps = Steps()
    plain = make_trainer(max_epochs=1)
    plain.train(make_loader(8))
    trainer = make_trainer(hooks={"a": answering("optimizer_step", False), "b": steps}, max_epochs=1)
    trainer.train(make_loader(8))
    assert steps.steps == 2
    assert torch.equal(weights_of(trainer), weights_of(plain))


def test_a_condition_of_numpy_is_an_answer_and_an_empty_answer_decides_nothing():
    def first(answer):
        plugins = [Plugin(name, answering("skip_batch", value)) for name, value in (("a", answer), ("b", True))]
        return Lifecycle(plugins).skip_batch(trainer=None, batch_idx=0)

    assert first(np.bool_(True)) is not None
    assert first(False) is first(np.bool_(False)) is True  # the answer of `b`


def test_two_methods_for_one_hook_are_refused():
    class Twice:
        @hookimpl(specname="on_epoch_end")
        def one(self): ...

        @hookimpl(specname="on_epoch_end")
        def two(self): ...

    with pytest.raises(HookError, match=r"`one` and `two` are both marked as `on_epoch_end`"):
        Lifecycle([Plugin("twice", Twice())])


def test_a_hook_may_come_after_the_one_that_it_is_named_after():
    class Clips:
        after = ("clip",)

    assert Lifecycle([Plugin("acme:clip", Clips())]).plugins


def test_a_number_is_the_same_for_an_answer_and_for_a_scalar_of_a_step():
    values = [1, 0.5, Fraction(1, 2), np.float32(1), np.ones(1), torch.ones(1), torch.ones(2), np.ones(2), "1", None]
    values += [torch.ones(1, dtype=torch.complex64), 1j, [1.0]]
    assert [is_number(value) for value in values] == [as_scalar(value) is not None for value in values]
    assert [is_number(value) for value in values] == [True] * 6 + [False] * 7
    assert not any(map(is_number, (True, np.bool_(True)))), "a bool is a scalar of a step, but not an answer"


def claims(hook, times=1000):
    """Makes a plugin that says so many times that it has done what it has not done."""
    answers = iter([True] * times)
    return type("Claims", (), {hook: hookimpl(lambda self: next(answers, None))})()


def test_backward_pass_that_a_hook_only_claims_is_an_error_that_names_it(tmp_path):
    trainer = make_trainer(tmp_path, hooks={"claims": claims("backward")})
    with pytest.raises(HookError, match="returned True from `backward`, but no weight has a gradient") as error:
        trainer.train(make_loader())
    owner, samples = error.value.notes
    assert owner == "implemented by: hook plugin `claims` (default)"
    assert samples.startswith("samples: sample ")


@pytest.mark.parametrize(("times", "warnings"), [(1000, 1), (1, 0)])
def test_optimizer_whose_steps_a_hook_leaves_out_for_an_epoch_is_a_warning(tmp_path, capsys, times, warnings):
    """To leave out some steps is what mixed precision does after an overflow."""
    trainer = make_trainer(tmp_path, hooks={"claims": claims("optimizer_step", times)}, max_epochs=3)
    before = weights_of(trainer)
    trainer.train(make_loader())
    log = capsys.readouterr().err
    assert log.count("[optimizer] took no step in epoch 1, because hooks returned True from") == warnings
    assert log.count("hook plugin `claims`") == warnings
    assert torch.equal(weights_of(trainer), before) == bool(warnings)


@pytest.mark.parametrize(
    "change", [lambda metrics: metrics.clear(), lambda metrics: metrics.update({"train/loss": 0.0})]
)
@pytest.mark.parametrize("hook", ["on_log", "on_epoch_end", "on_evaluation_end"])
def test_hook_that_changes_the_scalars_of_all_is_an_error_that_names_it(tmp_path, hook, change):
    def changes(self, metrics):
        assert json.loads(json.dumps(metrics)) == metrics | {}
        change(metrics)

    changing = type("Changing", (), {hook: hookimpl(changes)})()
    trainer = make_trainer(tmp_path, hooks={"changing": changing})
    with pytest.raises(HookError, match=rf"`changing` .*failed in `{hook}`: TypeError: these scalars are read-only"):
        trainer.train(make_loader(), [make_loader(shuffle=False)])


@pytest.mark.parametrize("decorator", [property, classmethod])
def test_decorator_above_which_a_hook_can_not_be_marked_is_named(decorator):
    with pytest.raises(TypeError, match=f"marks methods, and this is a {decorator.__name__}: remove"):
        hookimpl(decorator(lambda self: None))
