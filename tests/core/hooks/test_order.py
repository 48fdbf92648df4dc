"""The order of hook plugins: phases, then `before` and `after`, then names."""
# ruff: noqa: F811 - fixtures

import itertools

import pytest

from audiozen.testing import check_hooks as assert_hooks
from audiozen_core.config.hooks import check_hook_plugins
from audiozen_core.errors import HookError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.order import OrderError, calling_order
from audiozen_core.hooks.plugin import meant_plugin
from audiozen_core.inspection.probe import findings_about
from audiozen_core.registry.index import installed_index
from audiozen_core.registry.paths import resolve
from tests.cli.conftest import audiozen  # noqa: F401 - fixtures
from tests.installed import install, site  # noqa: F401 - fixtures
from tests.tiny_experiment import TOML, TinyExperiment


def plugin(name, distribution="", path="", **attributes):
    return Plugin(name, type("Made", (), attributes)(), distribution=distribution, path=path)


def order(*plugins):
    """Returns the names in order, which must not depend on the order of the arguments."""
    orders = {tuple(found.name for found in calling_order(each)) for each in itertools.permutations(plugins)}
    assert len(orders) == 1, orders
    return "".join(orders.pop())


def test_before_and_after_move_a_plugin_and_all_others_stay_in_the_order_of_their_names():
    assert order(plugin("a"), plugin("b"), plugin("c"), plugin("d")) == "abcd"
    assert order(plugin("a", after="c"), plugin("b"), plugin("c"), plugin("d")) == "bcad"
    assert order(plugin("a"), plugin("b"), plugin("c"), plugin("d", before=("b",))) == "acdb"
    assert order(plugin("a", after=("b", "c")), plugin("b", after=["c"]), plugin("c"), plugin("d")) == "cbad"
    # Both say the same.
    assert order(plugin("a", after=("b",)), plugin("b", before=("a",))) == "ba"


def test_phases_come_first_and_may_be_repeated_by_names():
    assert order(plugin("a", phase="persist"), plugin("b", before="a"), plugin("c", phase="gradient")) == "cba"
    assert order(plugin("a", after="c"), plugin("b"), plugin("c", phase="gradient", before=("b",))) == "cab"


def test_a_name_that_is_not_in_the_run_is_ignored():
    assert order(plugin("a", after=("ema", "acme:ema")), plugin("b", before=("x",))) == "ab"


def test_a_plugin_is_known_by_its_path_its_bare_name_and_its_distribution():
    for name in ("ema", "acme:ema"):
        assert order(plugin("a", after=name), plugin("ema", "acme")) == "emaa"
        assert order(plugin("a", after=name), plugin("acme:ema", "acme", "acme:ema")) == "acme:emaa"
    assert order(plugin("a", after="mine.Ema"), plugin("mine.Ema")) == "mine.Emaa"
    # Both uses of one hook.
    both = [plugin("ema", "acme", "ema"), plugin("ema_2", "acme", "ema")]
    assert order(plugin("a", after="ema"), *both) == "emaema_2a"
    assert order(plugin("a", after="ema_2"), *both) == "emaema_2a"
    assert order(plugin("a", after="other:ema"), *both) == "aemaema_2"


def test_error_names_all_plugins_of_a_circle_and_no_others():
    around = [plugin("a", before="b"), plugin("b", "acme", before="c"), plugin("c", before="a")]
    others = [plugin("0", before="a"), plugin("d", after="a"), plugin("e")]
    for each in itertools.permutations([*around, *others]):
        with pytest.raises(OrderError) as error:
            calling_order(each)
        circle = error.value.message.partition("in a circle: ")[2]
        assert circle in {
            "`a` before `b` before `c` before `a`",
            "`b` before `c` before `a` before `b`",
            "`c` before `a` before `b` before `c`",
        }
        assert {found.name for found in error.value.plugins} == {"a", "b", "c"}
    assert len(error.value.notes) == 3
    assert "order: hook plugin `b` of acme (default): phase monitor, before = ('c',)" in error.value.notes


def test_a_plugin_that_waits_for_itself_is_a_circle():
    with pytest.raises(OrderError, match="in a circle: `a` before `a`"):
        calling_order([plugin("a", after="a"), plugin("b")])


@pytest.mark.parametrize(
    "plugins",
    [
        (plugin("late", phase="persist", before="early"), plugin("early", phase="gradient")),
        (plugin("late", phase="persist"), plugin("early", phase="gradient", after=("late",))),
    ],
)
def test_a_contradiction_with_the_phases_is_an_error(plugins):
    with pytest.raises(OrderError) as error:
        Lifecycle(plugins)
    assert error.value.message == (
        "hook plugin `late` must run before `early`, but its phase `persist` comes after the phase `gradient`"
    )
    assert [found.name for found in error.value.plugins] == ["late", "early"]


def test_hooks_are_called_in_the_order_that_the_plugins_say():
    seen = []

    def noting(name, **attributes):
        method = hookimpl(lambda self: seen.append(name))
        return Plugin(name, type("Notes", (), {"on_epoch_start": method, **attributes})())

    lifecycle = Lifecycle([noting("a", after=("c",)), noting("b"), noting("c")])
    lifecycle.on_epoch_start(trainer=None, epoch=1)
    assert seen == ["b", "c", "a"]
    assert [found.name for found in lifecycle.order("on_epoch_start")] == seen


class Exchanges:
    """Doubles a number for a while, or adds one to it, and puts back what it was before."""

    def __init__(self, numbers, change):
        self.numbers, self.change, self.kept = numbers, change, []

    def begin(self):
        self.kept.append(self.numbers[0])
        self.numbers[0] = self.change(self.numbers[0])

    def undo(self):
        self.numbers[0] = self.kept.pop()

    @hookimpl.on_evaluation_start
    def on_evaluation_start(self):
        self.begin()

    @hookimpl.on_evaluation_end
    def on_evaluation_end(self):
        self.undo()

    @hookimpl.on_evaluation_abandoned
    def on_evaluation_abandoned(self):
        self.undo()

    @hookimpl.on_state_collect
    def on_state_collect(self):
        self.begin()

    @hookimpl.on_state_collected
    def on_state_collected(self):
        self.undo()


@pytest.mark.parametrize("end", ["on_evaluation_end", "on_evaluation_abandoned"])
def test_plugins_that_undo_a_change_are_called_in_the_reverse_order(end):
    numbers = [3.0]
    lifecycle = Lifecycle(
        [
            Plugin("doubles", Exchanges(numbers, lambda number: 2 * number)),
            Plugin("increments", Exchanges(numbers, lambda number: number + 1)),
        ]
    )
    lifecycle.on_evaluation_start(trainer=None, mode="validate", num_batches=None)
    lifecycle.on_state_collect(trainer=None)
    assert numbers == [15.0]  # in the order of the names: (3 * 2 + 1) * 2 + 1
    lifecycle.on_state_collected(trainer=None)
    assert numbers == [7.0]
    arguments = {"trainer": None, "mode": "validate"}
    if end == "on_evaluation_end":
        arguments |= {"score": 0.0, "metrics": {}}
    getattr(lifecycle, end)(**arguments)
    assert numbers == [3.0]
    assert [found.name for found in lifecycle.order(end)] == ["increments", "doubles"]


def test_an_unknown_phase_is_an_error_here_too():
    with pytest.raises(HookError, match="unknown phase `late`"):
        calling_order([plugin("a", phase="late")])


class SetInTheConstructor:
    phase = "gradient"
    after = "checkpoint"

    def __init__(self, phase="persist"):
        self.phase = phase


def test_check_leaves_an_order_that_a_constructor_sets_to_the_object():
    class Fixed:
        phase = "gradient"
        after = "checkpoint"

    last = Plugin("checkpoint", type("Last", (), {"phase": "persist"}))
    assert list(check_hook_plugins({Plugin("late", SetInTheConstructor): None, last: None})) == []
    ((finding, _),) = check_hook_plugins({Plugin("late", Fixed): None, last: None})
    assert "must run before" in finding.message, "negative control"
    with pytest.raises(OrderError, match="must run before"):
        calling_order([Plugin("late", SetInTheConstructor("gradient")), last])


NEAR = """
from audiozen_core.hooks.marker import hookimpl

class Late:
    after = ("clip_grad_nrom", "wandb", "amp_2", "tensorboardx", "progress_bar", "amp2")

    @hookimpl
    def on_epoch_end(self, trainer): ...
"""
MESSAGE = "`after` names the hook plugin `clip_grad_nrom`, which is not installed"


def test_a_name_that_is_probably_misspelt_is_a_warning_everywhere(install, tmp_path, audiozen):
    install("acme", {"acme_late": NEAR}, hooks={"acme_late": "acme_late:Late"})
    (found,) = findings_about(installed_index().find("acme_late"))
    assert (found.message.partition(": ")[2], found.severity) == (MESSAGE, "warning")
    assert found.notes[0].endswith("acme_late.py:4, in Late")
    assert found.notes[1] == "help: did you mean `clip_grad_norm`?"
    assert assert_hooks(resolve("acme_late").target), "it may be the name of a plugin that is not installed here"
    file = TinyExperiment(tmp_path).write(text="[[hooks]]\npath = 'acme_late'\n" + TOML)
    experiment = Experiment.load(file)
    (warning,) = experiment.warnings
    assert (warning.severity, warning.source) == ("warning", "path = 'acme_late'")
    assert warning.message == f"hook plugin `acme_late` of acme (tiny.toml:2): {MESSAGE}"
    outcome = audiozen("hooks", str(file))
    assert (outcome.code, MESSAGE in outcome.err, "clip_grad_nrom" in outcome.out) == (0, True, True)
    experiment.run()


def test_names_of_the_run_are_known_too():
    later = Plugin("later", type("Later", (), {"after": ("parts.Emma", "parts.Ema")}))
    ((finding, _),) = check_hook_plugins(
        {later: None, Plugin("parts.Ema", type("Ema", (), {}), path="parts.Ema"): None}
    )
    assert finding.message.startswith("hook plugin `later` (default): `after` names the hook plugin `parts.Emma`")
    assert list(check_hook_plugins({later: None})) == [], "they are legal where no plugin has a similar name"


def test_name_of_a_plugin_that_is_switched_off_is_known(install, monkeypatch):
    install("acme", {"acme": ""}, hooks={"clip_grad_nrom": "acme:Clip"})
    monkeypatch.setenv("AUDIOZEN_WITHOUT", "acme")
    assert meant_plugin("clip_grad_nrom") is meant_plugin("acme:clip_grad_nrom") is None
    assert meant_plugin("acne:clip_grad_nrom") == "acme:clip_grad_nrom"
