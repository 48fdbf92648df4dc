"""A hook that does not affect training may be added, changed and removed before a resume, and changes nothing."""

import pytest

from audiozen_core.errors import CheckpointError
from tests.core.checkpoint.exactness import difference
from tests.installed import install, site  # noqa: F401 - fixtures
from tests.tiny_experiment import TOML, TinyExperiment

HOOKS = """
class Watches:
    affects_training = False

    def __init__(self, every: int = 1):
        self.every = every

    @hookimpl
    def on_log(self, metrics): ...


class Counts(Watches):
    '''Counts the epochs, and keeps the number in the checkpoints.'''

    epochs = 0

    @hookimpl
    def on_epoch_end(self, trainer):
        self.epochs += 1
        trainer.log.info(f"{self.epochs} epochs counted")

    def state_dict(self):
        return {"epochs": self.epochs}

    def load_state_dict(self, state):
        self.epochs = state["epochs"]


class Changes(Counts):
    affects_training = True


def counting(every: int = 1):
    return Counts(every)


counting.affects_training = False
"""
INSTALLED = "from audiozen import hookimpl\n" + HOOKS


def entry(path, more=""):
    return f'[[hooks]]\npath = "{path}"\n{more}\n'


@pytest.fixture
def resumed(tmp_path, install):  # noqa: F811
    """Trains one epoch with some hooks, resumes for another with others, and returns the final state and the log."""
    install("acme", {"acme": INSTALLED}, hooks={"counts": "acme:Counts"})
    tiny = TinyExperiment(tmp_path, HOOKS)

    def run(before, now, name="tiny", **options):
        tiny.run(("max_epochs = 2", "max_epochs = 1"), name=name, text=TOML + before)
        state = tiny.run(name=name, text=TOML + now, resume=True, **options)
        return state, (tiny.folder / "exp" / name / f"{name}.log").read_text()

    return run


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The final state without further hooks and without a resume."""
    return TinyExperiment(tmp_path_factory.mktemp("plain"), HOOKS).run()


def training(state):
    """Returns the part of a state that a training depends on."""
    return {name: state[name] for name in ("model", "optimizer", "rng", "progress")}


NONE = entry("metrics_jsonl", "enabled = false") + entry("tensorboard", "enabled = false")
SOME = entry("parts.Watches") + entry("parts.Counts") + entry("counts") + entry("parts.counting")
CASES = {
    "added": (NONE, SOME),
    "removed": (SOME, NONE),
    "switched off": (SOME, SOME.replace("\n\n", "\nenabled = false\n")),
    "changed": (SOME, SOME.replace("\n\n", "\nargs.every = 2\n") + entry("progress", "args.line_seconds = 1")),
    "used twice": (entry("acme:counts"), entry("counts") + entry("parts.Counts") * 2),
}


@pytest.mark.parametrize("case", CASES)
def test_hook_that_does_not_affect_training_may_come_go_and_change(resumed, plain, case):
    state, log = resumed(*CASES[case])
    assert difference(training(state), training(plain)) is None
    # A hook that stays keeps its state, and an added one starts with a new state.
    counted = {"added": 1, "changed": 2, "used twice": 1}.get(case)
    assert f"{counted} epochs counted" in log or counted is None
    assert ("2 epochs counted" in log) is (counted == 2)


def test_hook_that_affects_training_may_not_change_unless_drift_is_allowed(resumed, plain):
    with pytest.raises(CheckpointError, match="settings that affect training have changed"):
        resumed("", entry("parts.Changes"))
    state, log = resumed("", entry("parts.Changes"), name="drifts", allow_drift=True)
    assert "1 epochs counted" in log
    assert state["hook_parts.Changes"] == {"epochs": 1}
