"""An error about the state of a hook names the hook, its distribution, and the key of the state."""

import re

import pytest
import torch

from audiozen_core.checkpoint.errors import UnstorableStateError
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.errors import CheckpointError
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer.components import Components
from tests.tiny_training import TinyTrainer


class Counts:
    """Has a state, and adds something to the checkpoint."""

    def __init__(self, state, extra=None):
        self.state, self.extra = state, extra or {}

    def state_dict(self):
        return self.state() if callable(self.state) else self.state

    def load_state_dict(self, state_dict):
        self.state = state_dict["seen"]

    @hookimpl.on_checkpoint_save
    def on_checkpoint_save(self, trainer, extra):
        extra.update(self.extra)


def trainer_with(hook, *, name="acme_counts", distribution="acme-tools"):
    plugins = [Plugin("fine", Counts({"a": 1}), "default"), Plugin(name, hook, "tiny.toml:31", distribution)]
    return TinyTrainer(Components({"": torch.nn.Linear(4, 1)}, lifecycle=Lifecycle(plugins)))


def save(trainer, folder):
    with trainer.checkpoint() as state:
        CheckpointStore(folder).save(state, epoch=1, step=1)


OF_ACME = "hook plugin `acme_counts` of acme-tools (tiny.toml:31)"


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (
            Counts({"seen": [1, {"of": iter([])}]}),
            f"the state of {OF_ACME} can't be stored: `state_dict()['seen'][1]['of']` ",
        ),
        (Counts(iter([])), f"the state of {OF_ACME} can't be stored: `state_dict()` contains"),
        (Counts({}, {"mean": iter([])}), f"the state of {OF_ACME} can't be stored: `extra['mean']` contains"),
        (
            Counts({"seen": 10**5000}),
            f"the state of {OF_ACME} can't be stored: `state_dict()` can't be written as JSON: ",
        ),
    ],
)
def test_state_that_cannot_be_stored_names_the_hook_and_the_key(tmp_path, hook, message):
    with pytest.raises(UnstorableStateError) as error:
        save(trainer_with(hook), tmp_path)
    assert error.value.message.startswith(message)
    assert "hook_" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_hook_of_a_recipe_is_named_by_its_path(tmp_path):
    with pytest.raises(UnstorableStateError, match=r"hook plugin `hooks\.BadState` \(tiny\.toml:31\) can't be stored"):
        save(trainer_with(Counts({"a": iter([])}), name="hooks.BadState", distribution=""), tmp_path)


def test_state_of_another_owner_keeps_its_name(tmp_path):
    trainer = trainer_with(Counts({"a": 1}))
    trainer.state.register("ema", Counts({"a": iter([])}))
    with pytest.raises(UnstorableStateError, match=r"the state of `ema` can't be stored: `ema\['a'\]` contains"):
        save(trainer, tmp_path)


def test_hook_that_fails_to_return_or_to_load_its_state_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=re.escape(f"{OF_ACME} failed to return its state: ZeroDivisionError")):
        save(trainer_with(Counts(lambda: 1 / 0)), tmp_path)
    trainer = trainer_with(Counts({"a": 1}))
    save(trainer, tmp_path)
    state = CheckpointStore(tmp_path).load("latest").state
    with pytest.raises(CheckpointError, match=re.escape(f"{OF_ACME} can't load its state")) as error:
        trainer.load_checkpoint({**state, "hook_fine": {"seen": 1}})
    assert "KeyError: 'seen'" in error.value.message
    assert __file__ in error.value.notes[0]
