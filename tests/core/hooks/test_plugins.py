import math
import re

import pytest

from audiozen_core.errors import HookError, RunError
from audiozen_core.hooks import specs
from audiozen_core.hooks.lifecycle import HOOK_NAMES, Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_plugins.hooks.checkpoint import Checkpoint
from tests.tiny_training import make_trainer


def make(phase="monitor", **hooks):
    """Creates a plugin with the given hooks, each a function of (self, …)."""
    members = {name: hookimpl(function) for name, function in hooks.items()}
    return type("Made", (), {"phase": phase, **members})()


def test_hooks_run_in_the_order_of_phase_and_then_name():
    seen = []

    def note(name, phase):
        return Plugin(name, make(phase, on_epoch_start=lambda self, epoch: seen.append(name)))

    plugins = [note("b", "monitor"), note("z", "precision"), note("saves", "persist"), note("a", "monitor")]
    plugins += [note("steps", "step"), note("clips", "gradient")]
    lifecycle = Lifecycle(plugins)
    lifecycle.on_epoch_start(trainer=None, epoch=1)
    assert seen == ["z", "clips", "steps", "a", "b", "saves"]
    assert [plugin.name for plugin in lifecycle.order("on_epoch_start")] == seen


def test_first_answer_counts_for_a_hook_with_one_answer():
    first = Plugin("a", make(stop_reason=lambda self: None))
    second = Plugin("b", make(stop_reason=lambda self: "enough"))
    third = Plugin("c", make(stop_reason=lambda self: "too much"))
    assert Lifecycle([third, second, first]).stop_reason(trainer=None) == "enough"


def test_hook_without_implementations_returns_none_or_an_empty_list():
    lifecycle = Lifecycle()
    for name in HOOK_NAMES:
        spec = getattr(specs.Hooks, name).audiozen_spec
        assert getattr(lifecycle, name)(trainer=None) == (None if spec["firstresult"] else [])


def test_each_plugin_gets_the_component_that_the_previous_one_returned():
    double = Plugin("a", make(on_component_built=lambda self, component: component * 2))
    leave = Plugin("b", make(on_component_built=lambda self, section: None))
    add = Plugin("c", make(on_component_built=lambda self, section, component: component + 1))
    assert Lifecycle([add, leave, double]).wrap_component("model", 5) == 11


def test_error_names_the_plugin_that_raised_and_its_origin():
    def breaks(self):
        raise KeyError("x")

    plugin = Plugin("acme", make(on_epoch_start=breaks), "exp.toml:12", "acme-hooks")
    with pytest.raises(HookError, match=r"`acme` of acme-hooks \(exp.toml:12\) failed in `on_epoch_start`: KeyError"):
        Lifecycle([plugin]).on_epoch_start(trainer=None, epoch=1)


def test_audiozen_error_of_a_hook_is_not_wrapped_and_gets_a_note_that_names_it():
    def breaks(self):
        raise RunError("no disk")

    plugin = Plugin("a", make(on_epoch_start=breaks), "exp.toml:12", "acme-hooks")
    with pytest.raises(RunError, match="no disk") as error:
        Lifecycle([plugin]).on_epoch_start(trainer=None, epoch=1)
    (note,) = error.value.notes
    assert note.startswith("raised by: hook plugin `a` of acme-hooks (exp.toml:12) in `on_epoch_start`, ")
    assert re.search(r"test_plugins\.py:\d+, in breaks$", note)


def test_error_of_the_trainer_that_a_hook_has_caused_names_the_hook_that_is_nearest():
    inner = Plugin("inner", make(on_epoch_start=lambda self, trainer: trainer.models["x"]), "exp.toml:12")
    lifecycle = Lifecycle([inner])
    outer = Plugin("outer", make(on_setup=lambda self, trainer: lifecycle.on_epoch_start(trainer=trainer, epoch=1)))
    trainer = make_trainer()
    for use, hook in ((lifecycle.on_epoch_start, {"epoch": 1}), (Lifecycle([outer]).on_setup, {})):
        with pytest.raises(RunError, match=r"the experiment has no \[model_x\]") as error:
            use(trainer=trainer, **hook)
        assert [note.partition(", ")[0] for note in error.value.notes if note.startswith("raised by")] == [
            "raised by: hook plugin `inner` (exp.toml:12) in `on_epoch_start`"
        ]


def test_error_of_one_of_our_own_hooks_has_no_such_note(tmp_path):
    """The message says all that a user needs."""
    lifecycle = Lifecycle([Plugin("checkpoint", Checkpoint())])
    trainer = make_trainer(tmp_path)
    next(trainer.model.parameters()).data.fill_(math.nan)
    with pytest.raises(RunError, match="not finite") as error:
        lifecycle.on_checkpoint_request(trainer=trainer, reason="now")
    assert not [note for note in error.value.notes if note.startswith("raised by")]


@pytest.mark.parametrize(
    ("plugin", "message"),
    [
        (make(on_epoch_begin=lambda self: None), "`on_epoch_begin` is not a hook"),
        (make(on_epoch_start=lambda self, epok: None), "has no argument `epok`"),
        (make(phase="late"), "`late` is not a phase"),
        (type("Unmarked", (), {"on_epoch_end": lambda self: None})(), "`on_epoch_end` is not marked as a hook"),
        (type("NotMade", (), {}), "is a class, not an object"),
    ],
)
def test_mistakes_that_pluggy_ignores_are_errors(plugin, message):
    with pytest.raises(HookError, match=message):
        Lifecycle([Plugin("a", plugin)])


def test_error_for_a_misspelt_hook_or_argument_suggests_a_name():
    with pytest.raises(HookError) as error:
        Lifecycle([Plugin("a", make(on_epoch_stop=lambda self: None))])
    assert "did you mean `on_epoch_start`?" in str(error.value) or "`on_epoch_end`" in str(error.value)
    with pytest.raises(HookError) as error:
        Lifecycle([Plugin("a", make(on_epoch_start=lambda self, epok: None))])
    assert error.value.notes[-1] == "help: did you mean `epoch`?"


def test_two_plugins_with_the_same_name_are_rejected():
    with pytest.raises(HookError, match="two hook plugins are called `a`"):
        Lifecycle([Plugin("a", make()), Plugin("a", make())])


def test_plugins_that_have_state_are_listed():
    class Counts:
        def state_dict(self):
            return {}

        def load_state_dict(self, state):
            pass

    counts = Counts()
    stateful = Lifecycle([Plugin("counts", counts), Plugin("none", make())]).stateful()
    assert [(plugin.name, plugin.instance) for plugin in stateful] == [("counts", counts)]


def test_every_hook_has_a_docstring():
    for name in HOOK_NAMES:
        assert getattr(specs.Hooks, name).__doc__, name
