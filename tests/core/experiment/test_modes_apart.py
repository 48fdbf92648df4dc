"""Each mode of a command has the result that it has in a command of its own, whatever ran before it."""

import json
import re

import pytest

from audiozen_core.errors import AudioZenError
from tests.measured import without_measured
from tests.tiny_experiment import TinyExperiment

PARTS = """
import copy


class Counts(nn.Module):
    '''Its answer depends on everything that a network can keep of earlier calls.'''

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)
        self.register_buffer("saved", torch.zeros(()))
        self.register_buffer("unsaved", torch.zeros(()), persistent=False)
        self.attribute = 0

    def forward(self, x):
        self.saved += 1
        self.unsaved += 1
        self.attribute += 1
        return self.linear(x) + 0.1 * self.saved + 0.01 * self.unsaved + 0.001 * self.attribute + torch.rand(1)


class Swaps:
    '''Exchanges the weights and their average before a mode, and leaves them so.'''

    def __init__(self):
        self.swapped = False

    @hookimpl
    def on_setup(self, trainer):
        self.average = copy.deepcopy(trainer.model.linear)
        trainer.state.register("average", self.average)

    @hookimpl
    def on_optimizer_step_end(self, trainer):
        with torch.no_grad():
            for mine, new in zip(self.average.parameters(), trainer.model.linear.parameters()):
                mine.lerp_(new, 0.5)

    @hookimpl
    def on_run_start(self, trainer, mode):
        if mode != "train" and not self.swapped:
            self.swapped = True
            own, average = trainer.model.linear.state_dict(), self.average.state_dict()
            own, average = copy.deepcopy(own), copy.deepcopy(average)
            trainer.model.linear.load_state_dict(average)
            self.average.load_state_dict(own)


class Kept(torch.nn.Module):
    '''A loss that counts its calls, without a state in the checkpoints.'''

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, estimate, target):
        self.calls += 1
        return (estimate - target).square().mean() * (1 + 0.01 * self.calls)
"""

CHANGES = (
    ('path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}', 'path = "parts.Counts"'),
    ('path = "torch.nn.MSELoss"', 'path = "parts.Kept"'),
    ("[dataset]", '[[hooks]]\npath = "parts.Swaps"\n[dataset]'),
)
LONGER = ("trainer.args.max_epochs=4",)


@pytest.fixture
def tiny(tmp_path):
    tiny = TinyExperiment(tmp_path, PARTS)
    tiny.run(*CHANGES)
    return tiny


def records(tiny, *modes, **options):
    """Runs modes, and returns the values that they record."""
    path = tiny.folder / "exp/tiny/metrics.jsonl"
    before = len(path.read_text().splitlines())
    tiny.run(*CHANGES, modes=modes, **options)
    lines = [json.loads(line) for line in path.read_text().splitlines()[before:]]
    return [without_measured(line) for line in lines]


def test_evaluations_do_not_change_each_other(tiny):
    validated, tested = records(tiny, "validate"), records(tiny, "test")
    assert records(tiny, "validate", "test") == validated + tested
    assert records(tiny, "test", "validate") == tested + validated
    # The same command twice: the first one has left nothing behind.
    assert records(tiny, "test") == tested


def test_named_checkpoint_is_that_of_each_evaluation(tiny):
    first = {"ckpt_path": str(tiny.folder / "exp/tiny/checkpoints/epoch_0001")}
    alone = records(tiny, "validate", **first) + records(tiny, "test", **first)
    assert records(tiny, "validate", "test", **first) == alone
    assert {line["epoch"] for line in alone} == {1}


def test_evaluation_before_a_resumed_training_does_not_change_it(tiny, tmp_path_factory):
    other = TinyExperiment(tmp_path_factory.mktemp("other"), PARTS)
    other.run(*CHANGES)
    alone = records(tiny, "train", resume=True, overrides=LONGER)
    evaluated, *trained = records(other, "validate", "train", resume=True, overrides=LONGER)
    assert evaluated["checkpoint"] == "best_epoch_0002"
    assert trained == alone
    assert [line["epoch"] for line in alone] == [3, 4]


def test_test_after_a_training_uses_its_best_weights_like_a_test_alone(tiny):
    *_, tested = records(tiny, "train", "test", resume=True, overrides=LONGER)
    assert [tested] == records(tiny, "test", overrides=LONGER)


def test_one_mode_builds_and_loads_once(tiny, capsys):
    def loaded(*modes):
        capsys.readouterr()
        tiny.run(*CHANGES, modes=modes)
        return capsys.readouterr().err.count("weights are loaded")

    assert loaded("test") == 1
    assert loaded("validate", "test") == 2


def test_evaluation_before_a_training_that_has_no_checkpoint_is_an_error(tmp_path):
    tiny = TinyExperiment(tmp_path, PARTS)
    with pytest.raises(AudioZenError, match="no checkpoint"):
        tiny.run(*CHANGES, modes=("validate", "train"), resume=True)


def test_training_and_finetuning_do_not_share_a_folder(tiny):
    with pytest.raises(AudioZenError, match="are two runs"):
        tiny.run(*CHANGES, modes=("train", "finetune"), ckpt_path="best")


NOTES = """
class Notes:
    @hookimpl
    def on_setup(self, trainer):
        print("set up with", repr(trainer.checkpoint_name))
"""


def test_hooks_are_set_up_with_the_name_of_the_checkpoint(tmp_path, capsys):
    TinyExperiment(tmp_path, NOTES).run(
        ("[dataset]", '[[hooks]]\npath = "parts.Notes"\n[dataset]'), modes=("train", "test")
    )
    assert re.findall("set up with (.*)", capsys.readouterr().out) == ["''", "'best_epoch_0002'"]
