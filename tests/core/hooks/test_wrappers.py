"""Wrappers run around the other implementations of a hook, and must not hide errors."""

import pytest

from audiozen_core.errors import HookError, RunError
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl


def wrapper(hook, function):
    return type("Wraps", (), {hook: hookimpl(wrapper=True)(function)})()


def plain(hook, function):
    return type("Plain", (), {hook: hookimpl(function)})()


def test_wrapper_runs_around_other_implementations_and_may_change_the_answer():
    seen = []

    def around(self):
        seen.append("before")
        answer = yield
        seen.append("after")
        return f"{answer}, really"

    lifecycle = Lifecycle(
        [
            Plugin("z", wrapper("stop_reason", around)),
            Plugin("a", plain("stop_reason", lambda self: seen.append("a") or "enough")),
        ]
    )
    assert lifecycle.stop_reason(trainer=None) == "enough, really"
    assert seen == ["before", "a", "after"]
    assert [plugin.name for plugin in lifecycle.order("stop_reason")] == ["z", "a"]


def call_failing_hook(around):
    """Calls a hook that raises KeyError inside a wrapper."""

    def breaks(self):
        raise KeyError("x")

    plugins = [
        Plugin("quiet", wrapper("on_epoch_start", around), "exp.toml:7", "acme-hooks"),
        Plugin("a", plain("on_epoch_start", breaks)),
    ]
    Lifecycle(plugins).on_epoch_start(trainer=None, epoch=1)


def test_error_names_a_wrapper_that_swallows_an_exception_and_keeps_the_cause():
    def swallows(self):
        try:
            yield
        except Exception:
            return None

    message = r"`quiet` of acme-hooks \(exp.toml:7\): its wrapper of `on_epoch_start` swallowed HookError: "
    with pytest.raises(HookError, match=message) as caught:
        call_failing_hook(swallows)
    assert "`a` (default) failed in `on_epoch_start`: KeyError" in str(caught.value.__cause__)


def test_wrapper_does_not_change_an_exception_that_it_lets_through():
    cleaned = []

    def lets_through(self):
        try:
            return (yield)
        finally:
            cleaned.append(True)

    with pytest.raises(HookError, match=r"`a` \(default\) failed in `on_epoch_start`: KeyError"):
        call_failing_hook(lets_through)
    assert cleaned == [True]


@pytest.mark.parametrize("place", ["before", "after", "instead"])
def test_error_names_a_wrapper_that_raises(place):
    def raises(self):
        if place == "before":
            raise ValueError("mine")
        try:
            yield
        except Exception:
            raise ValueError("mine") from None
        raise ValueError("mine")

    other = Plugin("a", plain("on_epoch_start", lambda self: 1 / 0 if place == "instead" else None))
    with pytest.raises(HookError, match=r"`w` \(default\) failed in `on_epoch_start`: ValueError: mine"):
        Lifecycle([Plugin("w", wrapper("on_epoch_start", raises)), other]).on_epoch_start(trainer=None, epoch=1)


def test_wrapper_can_replace_an_exception_with_an_audiozen_error():
    def replaces(self):
        try:
            yield
        except HookError:
            raise RunError("no disk") from None

    with pytest.raises(RunError, match="no disk"):
        call_failing_hook(replaces)


def test_a_wrapper_must_yield_exactly_once():
    def twice(self):
        yield
        yield

    def twice_on_error(self):
        try:
            yield
        except Exception:
            yield

    def never(self):
        if not self:
            yield

    with pytest.raises(HookError, match=r"`quiet` .*yielded twice"):
        call_failing_hook(twice_on_error)
    for function, message in ((twice, "yielded twice"), (never, "did not yield")):
        with pytest.raises(HookError, match=message):
            Lifecycle([Plugin("w", wrapper("on_epoch_start", function))]).on_epoch_start(trainer=None, epoch=1)


@pytest.mark.parametrize(
    ("options", "hook", "message"),
    [
        ({"hookwrapper": True}, "on_epoch_start", "marked `hookwrapper`"),
        ({"wrapper": True}, "on_component_built", "can't be wrapped"),
        ({"tryfirst": True}, "on_epoch_start", "marked `tryfirst`"),
        ({"trylast": True}, "on_epoch_start", "marked `tryfirst` or `trylast`"),
    ],
)
def test_pluggy_options_that_bypass_the_phases_or_hide_errors_are_rejected(options, hook, message):
    def around(self):
        yield

    plugin = type("Around", (), {hook: hookimpl(**options)(around)})()
    with pytest.raises(HookError, match=message):
        Lifecycle([Plugin("a", plugin)])


def test_wrapper_without_yield_is_rejected():
    with pytest.raises(HookError, match="has no `yield`"):
        Lifecycle([Plugin("a", wrapper("on_epoch_start", lambda self: None))])


def test_unknown_optional_hook_is_ignored():
    later = type("Later", (), {"on_moon_rise": hookimpl(optionalhook=True)(lambda self: None)})()
    assert Lifecycle([Plugin("later", later)]).on_epoch_start(trainer=None, epoch=1) == []


@pytest.mark.parametrize("hook", ["on_teardown", "on_exception"])
def test_every_teardown_and_exception_hook_runs_even_if_one_raises(hook):
    closed = []

    def breaks(self):
        raise OSError("disk full")

    plugins = [Plugin("a", plain(hook, breaks)), Plugin("b", plain(hook, lambda self: closed.append("b")))]
    with pytest.raises(HookError, match=f"`a` \\(default\\) failed in `{hook}`: OSError: disk full"):
        getattr(Lifecycle(plugins), hook)(trainer=None, **({"error": OSError()} if hook == "on_exception" else {}))
    assert closed == ["b"]


def test_exception_in_any_other_hook_stops_the_remaining_plugins():
    called = []

    def breaks(self):
        raise OSError("disk full")

    plugins = [Plugin("a", plain("on_epoch_start", breaks))]
    plugins += [Plugin("b", plain("on_epoch_start", lambda self: called.append("b")))]
    with pytest.raises(HookError):
        Lifecycle(plugins).on_epoch_start(trainer=None, epoch=1)
    assert called == []
