"""Mistakes in a class of hooks are found before anything runs: by `check`, `hooks`, `run`, `check_hooks`, `doctor`."""

import asyncio
import inspect
from contextlib import contextmanager, nullcontext
from typing import ClassVar

import pytest
import torch

from audiozen_core.errors import HookError
from audiozen_core.hooks.checks import hook_findings, implemented_hooks
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl


class Generator:
    @hookimpl
    def on_epoch_end(self):
        yield


class Async:
    @hookimpl
    async def on_epoch_end(self):
        await asyncio.sleep(0)


class AsyncGenerator:
    @hookimpl
    async def on_epoch_end(self):
        yield


class NoSelf:
    @hookimpl
    def on_epoch_end(): ...


class NoSelfButArguments:
    @hookimpl
    def on_epoch_end(trainer, epoch): ...


class OnlyKeywords:
    @hookimpl
    def on_epoch_end(*, epoch): ...


class Misspelt:
    @hookimpl
    def on_epoch_ends(self): ...


class WrongArgument:
    @hookimpl
    def on_epoch_end(self, epok): ...


class KeywordArgument:
    @hookimpl
    def on_epoch_end(self, *, epoch): ...


class DefaultArgument:
    @hookimpl
    def on_epoch_end(self, epoch=0): ...


class AnyKeyword:
    @hookimpl
    def on_epoch_end(self, **arguments): ...


class AnyPositional:
    @hookimpl
    def on_epoch_end(self, *arguments): ...


class WrongStaticArgument:
    @staticmethod
    @hookimpl
    def on_epoch_end(epok): ...


class MarkedStaticMethod:
    @hookimpl
    @staticmethod
    def on_epoch_end(epoch): ...


class UnmarkedProperty:
    @property
    def on_epoch_end(self): ...


class LosesTheAnswer:
    @hookimpl(wrapper=True)
    def backward(self):
        yield


class UnknownPhase:
    phase = "late"


class NumberAsPhase:
    phase = 3


class NumberAsBefore:
    before = 3


class NumbersAsAfter:
    after = ("amp", 3)


WRONG = {
    Generator: "`on_epoch_end` has a `yield`, so its code would not run",
    Async: "`on_epoch_end` is async, so its code would not run",
    AsyncGenerator: "`on_epoch_end` is async, so its code would not run",
    NoSelf: "the method `on_epoch_end` has no `self`",
    NoSelfButArguments: "the method `on_epoch_end` has no `self`",
    OnlyKeywords: "the method `on_epoch_end` has no `self`",
    Misspelt: "`on_epoch_ends` is not a hook",
    WrongArgument: "hook `on_epoch_end` has no argument `epok`",
    KeywordArgument: "the argument `epoch` of `on_epoch_end` is keyword-only, so it is not passed",
    DefaultArgument: "the argument `epoch` of `on_epoch_end` has a default, so it is not passed",
    AnyKeyword: "`**arguments` of `on_epoch_end` is always empty",
    AnyPositional: "`*arguments` of `on_epoch_end` is always empty",
    WrongStaticArgument: "hook `on_epoch_end` has no argument `epok`",
    UnmarkedProperty: "`on_epoch_end` is not marked as a hook",
    LosesTheAnswer: "the wrapper of `backward` returns nothing, so the answer of the other implementations is lost",
    UnknownPhase: "`late` is not a phase",
    NumberAsPhase: "`3` is not a phase",
    NumberAsBefore: "`before` is not a tuple of the names of hook plugins",
    NumbersAsAfter: "`after` is not a tuple of the names of hook plugins",
}


@pytest.mark.parametrize(("cls", "message"), WRONG.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_mistake_is_one_finding_with_its_line(cls, message):
    (finding,) = hook_findings(cls)
    assert finding.message == message
    lines, first = inspect.getsourcelines(cls)
    inside = [number for number, text in enumerate(lines, first) if text.lstrip().startswith(("def ", "async def "))]
    if cls is not UnmarkedProperty:
        line = inside[0] if inside else first
        assert finding.notes[0].startswith(f"defined in: {__file__}:{line}, in {cls.__name__}")
    assert finding.notes[-1].startswith("help: ")
    with pytest.raises(HookError) as error:
        Lifecycle([Plugin("mine", cls())])
    assert error.value.message == f"hook plugin `mine` (default): {message}"
    assert error.value.notes == finding.notes


def test_marks_above_a_static_method_work_or_are_refused():
    # Whether pluggy finds this mark depends on its version.
    findings = hook_findings(MarkedStaticMethod)
    assert [finding.message for finding in findings] == ["`@hookimpl` of `on_epoch_end` is above `staticmethod`"]


class Right:
    phase = "gradient"
    before = "clip_grad_norm"
    after: ClassVar = ["amp"]
    seen: ClassVar = []

    @staticmethod
    @hookimpl
    def on_epoch_start(epoch):
        Right.seen.append(("static", epoch))

    @classmethod
    @hookimpl
    def on_epoch_end(cls, epoch):
        cls.seen.append(("class", epoch))

    @hookimpl
    @torch.no_grad()
    def on_gradients_ready(self, trainer):
        self.seen.append(("no_grad", trainer))

    @hookimpl
    @contextmanager
    def autocast(this, trainer):
        yield

    @hookimpl(wrapper=True)
    def backward(self):
        try:
            return (yield)
        finally:
            self.seen.append(("wrapper", torch.is_grad_enabled()))

    on_log = None


def test_methods_of_every_working_form_are_called():
    assert hook_findings(Right) == []
    assert set(implemented_hooks(Right)) == {
        "on_epoch_start",
        "on_epoch_end",
        "on_gradients_ready",
        "autocast",
        "backward",
    }
    lifecycle = Lifecycle([Plugin("right", Right())])
    lifecycle.on_epoch_start(trainer=None, epoch=1)
    lifecycle.on_epoch_end(trainer=None, epoch=2, metrics={})
    lifecycle.on_gradients_ready(trainer=3)
    lifecycle.backward(trainer=None, loss=None, inputs=None, last=True)
    assert Right.seen == [("static", 1), ("class", 2), ("no_grad", 3), ("wrapper", True)]
    assert isinstance(lifecycle.autocast(trainer=None), type(contextmanager(lambda: iter([None]))()))
    assert lifecycle.on_log(trainer=None, mode="train", metrics={}, step=0, epoch=0) == []


def test_a_phase_that_only_an_object_knows_is_checked_when_it_is_built():
    class Chosen:
        def __init__(self, phase):
            self._phase = phase

        @property
        def phase(self):
            return self._phase

    assert hook_findings(Chosen) == []
    assert Lifecycle([Plugin("a", Chosen("step"))]).plugins[0].phase == "step"
    with pytest.raises(HookError, match="unknown phase `late`"):
        Lifecycle([Plugin("a", Chosen("late"))])


def test_a_mark_with_the_name_of_a_hook_works_on_any_method():
    class Reports:
        seen: ClassVar = []

        @hookimpl.on_epoch_end
        def report(self, epoch):
            self.seen.append(epoch)

        @hookimpl.backward(wrapper=True)
        def backward(self):
            self.seen.append("around")
            return (yield)

    assert hook_findings(Reports) == []
    assert implemented_hooks(Reports) == {"backward": "backward", "on_epoch_end": "report"}
    lifecycle = Lifecycle([Plugin("a", Reports())])
    lifecycle.on_epoch_end(trainer=None, epoch=3, metrics={})
    lifecycle.backward(trainer=None, loss=None, inputs=None, last=True)
    assert Reports.seen == [3, "around"]


def test_a_mark_with_a_misspelt_name_is_found_at_its_line():
    """An error of Python would stop the import, and with it all other classes of the module."""

    class Misspelt:
        @hookimpl.on_epoch_ends
        def on_epoch_ends(self, epoch): ...

        @hookimpl.banana
        def report(self, epoch): ...

    ends, banana = hook_findings(Misspelt)
    assert ends.message == "`on_epoch_ends` is not a hook"
    assert ends.notes[-1] == "help: did you mean `on_epoch_end`?"
    assert f"{__file__}:" in ends.notes[0]
    assert banana.message == "`banana` is not a hook"
    assert not hasattr(hookimpl, "__wrapped__")


def test_a_mark_with_the_name_of_another_hook_is_refused():
    class Confused:
        @hookimpl.on_epoch_start
        def on_epoch_end(self, epoch): ...

    (finding,) = hook_findings(Confused)
    assert finding.message == "`on_epoch_end` is marked as the hook `on_epoch_start`"
    assert finding.notes[-1] == "help: write `@hookimpl.on_epoch_end`"


def test_an_autocast_hook_may_return_any_context_manager():
    class Own:
        @hookimpl
        def autocast(self):
            return nullcontext()

    assert isinstance(Lifecycle([Plugin("a", Own())]).autocast(trainer=None), nullcontext)
