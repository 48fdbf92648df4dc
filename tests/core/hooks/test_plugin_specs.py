"""A plugin brings hooks of its own, which other plugins implement and which it calls with types."""
# ruff: noqa: F811 - fixtures

import sys

import pytest

from audiozen.testing import check_hooks
from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.diagnostics import codes
from audiozen_core.errors import ConfigError, HookError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.hooks.checks import hook_findings, implemented_hooks
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.spec_lookup import plugin_specs
from audiozen_core.inspection.probe import findings_about
from audiozen_core.registry.index import installed_index
from tests.cli.conftest import audiozen  # noqa: F401 - fixtures
from tests.installed import install, site  # noqa: F401 - fixtures
from tests.tiny_experiment import TOML, TinyExperiment

SPECS = '''
    from __future__ import annotations
    from typing import TYPE_CHECKING, Any
    from audiozen import hookimpl, hookspec

    if TYPE_CHECKING:
        from audiozen.hooks import Trainer

    class AcmeHooks:
        @hookspec
        def acme_mixed(self, trainer: Trainer, snr: float) -> None:
            """A mixture has been made."""

        @hookspec(firstresult=True)
        def acme_gain(self, trainer: Trainer) -> float | None:
            """Returns the gain.

            Returns:
                A gain in decibels.
            """

    class Mixer:
        @hookimpl
        def on_epoch_end(self, trainer: Trainer) -> None:
            own = trainer.hooks.plugin_hooks(AcmeHooks)
            own.acme_mixed(trainer=trainer, snr=own.acme_gain(trainer=trainer) or 0.0)
'''
LISTENER = """
    from audiozen_core.hooks.marker import hookimpl
    heard = []

    class Listener:
        @hookimpl
        def acme_mixed(self, snr):
            heard.append(snr)

        @hookimpl
        def acme_gain(self):
            return 2.5
"""
BOTH = "[[hooks]]\npath = 'mixer'\n[[hooks]]\npath = 'listener'\n"


@pytest.fixture
def acme(install):
    install("acme", {"acme": SPECS}, hookspecs={"acme": "acme:AcmeHooks"}, hooks={"mixer": "acme:Mixer"})


@pytest.fixture
def listener(install):
    install("other", {"other": LISTENER}, hooks={"listener": "other:Listener"})


class Silent:
    @hookimpl
    def on_epoch_end(self): ...


def plugins(*objects):
    return [Plugin(type(each).__name__.lower(), each) for each in objects]


def of(lifecycle):
    import acme

    return lifecycle.plugin_hooks(acme.AcmeHooks)


# ------------------------------------------------------------------------------------------ calls


def test_run_calls_the_hooks_of_a_plugin(acme, listener, tmp_path):
    import other

    other.heard.clear()
    Experiment.load(TinyExperiment(tmp_path).write(text=BOTH + TOML)).run()
    assert other.heard == [2.5, 2.5], "two epochs"


def test_hook_without_implementations_returns_none(acme):
    hooks = of(Lifecycle(plugins(Silent())))
    assert hooks.acme_gain(trainer=None) is None
    assert hooks.acme_mixed(trainer=None, snr=1.0) is None


def test_calls_are_made_once_for_each_class_and_a_listener_returns_nothing(acme):
    class Listens:
        @hookimpl
        def acme_mixed(self, snr): ...

    lifecycle = Lifecycle(plugins(Listens()))
    assert of(lifecycle) is of(lifecycle)
    assert of(lifecycle).acme_mixed(trainer=None, snr=1.0) is None
    with pytest.raises(TypeError):
        of(lifecycle).acme_mixed(None, 1.0)


def test_plugins_are_called_in_the_order_of_their_phases(acme):
    heard = []

    class Late:
        phase = "persist"

        @hookimpl
        def acme_mixed(self):
            heard.append("late")

    class Soon:
        phase = "precision"

        @hookimpl
        def acme_mixed(self):
            heard.append("soon")

    of(Lifecycle(plugins(Late(), Soon()))).acme_mixed(trainer=None, snr=1.0)
    assert heard == ["soon", "late"]


@pytest.mark.parametrize(
    ("hook", "answer", "message"),
    [
        ("acme_gain", "loud", "answered `acme_gain` with `'loud'`, which is not an answer of this hook"),
        ("acme_mixed", 3, "returned `3` from `acme_mixed`, but this hook must not return a value"),
    ],
)
def test_answers_are_checked_like_those_of_our_own_hooks(acme, hook, answer, message):
    cls = type("Wrong", (), {hook: hookimpl(eval(f"lambda self: {answer!r}"))})
    cls.__dict__[hook].__name__ = hook
    hooks = of(Lifecycle(plugins(cls())))
    with pytest.raises(HookError) as caught:
        getattr(hooks, hook)(trainer=None, **({"snr": 1.0} if hook == "acme_mixed" else {}))
    assert message in str(caught.value)


def test_error_in_an_implementation_names_the_plugin_and_the_hook(acme):
    class Fails:
        @hookimpl
        def acme_mixed(self):
            raise ValueError("no")

    with pytest.raises(HookError, match=r"hook plugin `fails` .* failed in `acme_mixed`: ValueError: no"):
        of(Lifecycle(plugins(Fails()))).acme_mixed(trainer=None, snr=1.0)


# ------------------------------------------------------------------------------------------ checks


def test_checks_know_the_hooks_of_plugins(acme, listener):
    import other

    assert hook_findings(other.Listener) == []
    assert check_hooks(other.Listener) == {"acme_gain": "acme_gain", "acme_mixed": "acme_mixed"}
    assert list(findings_about(installed_index().find("listener"))) == []


@pytest.mark.parametrize(
    ("name", "argument", "message", "remedy"),
    [
        ("acme_mixd", "snr", "`acme_mixd` is not a hook", "did you mean `acme_mixed`?"),
        ("acme_mixed", "snrr", "hook `acme_mixed` has no argument `snrr`", "did you mean `snr`?"),
    ],
)
def test_check_finds_a_misspelt_hook_of_a_plugin_at_its_line(acme, tmp_path, name, argument, message, remedy):
    code = f"\n\nclass Mine:\n    @hookimpl\n    def {name}(self, {argument}): ...\n"
    tiny = TinyExperiment(tmp_path, parts=code)
    with pytest.raises(ConfigError) as caught:
        check_config(load_config(tiny.write(text=f"[[hooks]]\npath = 'parts.Mine'\n{TOML}")))
    (found,) = caught.value.diagnostics
    assert message in found.message
    assert f"help: {remedy}" in found.notes
    assert found.span.line == 2


def test_hook_of_a_plugin_that_is_not_installed_is_unknown_unless_it_is_optional(listener):
    import other

    assert {finding.message for finding in hook_findings(other.Listener)} == {
        "`acme_gain` is not a hook",
        "`acme_mixed` is not a hook",
    }

    class Optional:
        @hookimpl(optionalhook=True)
        def acme_mixed(self): ...

    assert hook_findings(Optional) == []
    assert implemented_hooks(Optional) == {}


def test_hooks_command_lists_the_hooks_of_plugins(acme, listener, tmp_path, audiozen):
    outcome = audiozen("hooks", str(TinyExperiment(tmp_path).write(text=BOTH + TOML)))
    assert outcome.code == 0, outcome.err
    lines = [line.split() for line in outcome.out.splitlines()]
    assert lines[lines.index(["acme_mixed"]) + 1][:3] == ["listener", "monitor", "other"]


# ------------------------------------------------------------------------------------------ faults of the specs


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("class AcmeHooks: ...", "has no hook"),
        ("AcmeHooks = 3", "has no hook"),
        (
            "class AcmeHooks:\n    @hookspec\n    def on_epoch_end(self): ...",
            "`on_epoch_end` is one of AudioZEN's own hooks",
        ),
        (
            "class AcmeHooks:\n    @hookspec\n    def acme(self) -> int: ...",
            "`acme` returns a value, but is not marked",
        ),
    ],
)
def test_doctor_names_what_is_wrong_with_a_class_of_specs(install, code, message):
    install("bad", {"bad": f"from audiozen import hookspec\n{code}"}, hookspecs={"bad": "bad:AcmeHooks"})
    (found,) = findings_about(installed_index().find("bad"))
    assert found.code == codes.HOOK
    assert message in found.message


def test_hook_of_two_plugins_is_a_fault(acme, install):
    code = "from audiozen import hookspec\nclass H:\n    @hookspec\n    def acme_mixed(self, x): ..."
    install("twin", {"twin": code}, hookspecs={"twin": "twin:H"})
    (found,) = findings_about(installed_index().find("twin"))
    assert "the hook `acme_mixed` belongs to acme 1.0 and twin 1.0" in found.message
    with pytest.raises(HookError, match=r"belongs to acme 1\.0 and twin 1\.0"):
        of(Lifecycle())


def test_class_without_specs_can_not_be_called():
    with pytest.raises(HookError, match="has no hook"):
        Lifecycle().plugin_hooks(Silent)


def test_broken_specs_harm_only_those_who_use_them(install, tmp_path):
    install("bad", {"bad": "1 / 0"}, hookspecs={"bad": "bad:H"})
    Experiment.load(TinyExperiment(tmp_path).write())
    assert "bad" not in sys.modules


@pytest.mark.usefixtures("acme")
def test_plugin_whose_specs_are_only_looked_up_is_not_used_by_the_run(install, tmp_path):
    ours = "from audiozen_core.hooks.marker import hookimpl\nclass Ours:\n    @hookimpl(optionalhook=True)\n"
    install("other", {"other": ours + "    def other_event(self): ..."}, hooks={"ours": "other:Ours"})
    experiment = Experiment.load(TinyExperiment(tmp_path).write(text="[[hooks]]\npath = 'ours'\n" + TOML))
    assert {entry.distribution for _, entry in experiment.scope.used} == {"audiozen", "other"}


def test_class_of_specs_is_imported_once_even_if_it_fails(install, site):
    count = site / "count"
    install("acme", {"acme": f"open({str(count)!r}, 'a').write('x')\nimport no_such_thing"}, hookspecs={"a": "acme:A"})
    assert not list(plugin_specs())
    assert not list(plugin_specs())
    assert count.read_text() == "x"
    install("other", {"other": SPECS}, hookspecs={"other": "other:AcmeHooks"})
    assert [name for name, _, _ in plugin_specs()] == ["acme_mixed", "acme_gain"], "what is installed later is found"
