"""`check --build` measures what a training needs: also the state that an optimiser makes in its first step."""

import json
import re

import pytest
import torch

from audiozen_core.errors import RunError
from audiozen_core.experiment.dry_run import dry_run, thread_fact
from audiozen_core.experiment.experiment import Experiment
from tests.tiny_experiment import TinyExperiment

PARTS = """
import json
from pathlib import Path

OPTIMIZERS = []


class Adam(torch.optim.Adam):
    def __init__(self, params, lr: float = 0.1):
        super().__init__(params, lr=lr)
        OPTIMIZERS.append(self)


def write(name, *values):
    with Path(__file__).with_name(name).open("a") as file:
        print(json.dumps(values), file=file)


class Net(nn.Linear):
    # Writes down what is held beside the weights when a batch begins, and the gradients of each pass.
    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.weight.register_hook(lambda gradient: write("gradients.jsonl", *gradient.flatten().tolist()))

    def forward(self, x):
        state = OPTIMIZERS[-1].state
        moments = sum(t.numel() for w in self.parameters() for t in state.get(w, {}).values() if t.ndim)
        write("seen.jsonl", moments, self.weight.grad is not None, self.weight.flatten().tolist())
        return super().forward(x)


class Embeds(nn.Embedding):
    def forward(self, x):
        return super().forward((x[:, 0] > 0).long())
"""
NET = (
    ('path = "torch.nn.Linear"', 'path = "parts.Net"'),
    ('path = "torch.optim.Adam"', 'path = "parts.Adam"'),
)


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


@pytest.mark.parametrize("window", [1, 2])
def test_second_pass_has_the_state_of_the_optimizer_and_the_same_weights(tiny, window):
    changes = (*NET, ("max_epochs = 2", f"max_epochs = 2\ngradient_accumulation_steps = {window}"))
    facts = dry_run(Experiment.load(tiny.write(*changes)))
    first, second = map(json.loads, (tiny.folder / "seen.jsonl").read_text().splitlines())
    assert (first[0], second[0]) == (0, 2 * 5)  # Adam keeps two values for each of the five weights
    assert (first[1], second[1]) == (False, window > 1)  # as when the second batch of a training run begins
    assert first[2] == second[2]
    assert "of the whole process" in facts["memory"]


def lines(tiny, name):
    path = tiny.folder / name
    found = [json.loads(line) for line in path.read_text().splitlines()]
    path.unlink()
    return found


def test_float16_is_measured_too(tiny):
    dry_run(Experiment.load(tiny.write(*NET)))
    plain = lines(tiny, "gradients.jsonl")
    assert lines(tiny, "seen.jsonl")[1][0] == 2 * 5
    changes = (
        ('device = "cpu"', 'device = "cpu"\nuse_amp = true'),
        ("[dataset]", '[[hooks]]\npath = "amp"\nargs = {dtype = "float16", init_scale = 16.0}\n[dataset]'),
    )
    dry_run(Experiment.load(tiny.write(*NET, *changes)))
    scaled = lines(tiny, "gradients.jsonl")
    assert len(scaled) == len(plain) == 2
    for of_pass, without in zip(scaled, plain, strict=True):
        assert of_pass == pytest.approx(without, rel=0.01)
        assert of_pass != without, "float32"
    assert lines(tiny, "seen.jsonl")[1][0] == 2 * 5


def test_time_is_that_of_a_batch_and_not_of_a_step(tiny):
    text = "max_epochs = 2\ngradient_accumulation_steps = 3"
    facts = dry_run(Experiment.load(tiny.write(*NET, ("max_epochs = 2", text))))
    assert re.fullmatch(r"\d+\.\d{3} s a batch, forward and backward, 0:00:\d\d an epoch", facts["time"])


@pytest.mark.parametrize(("steps", "batches"), [("", "3 an epoch"), ("\nsteps_per_epoch = 7", "14 an epoch")])
def test_batches_of_an_epoch_are_those_that_are_trained_on(tiny, steps, batches):
    text = f"max_epochs = 2\ngradient_accumulation_steps = 2{steps}"
    assert dry_run(Experiment.load(tiny.write(*NET, ("max_epochs = 2", text))))["batches"] == batches


def test_optimizer_that_can_not_step_is_an_error_before_the_training(tiny):
    sparse = (
        'path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}',
        'path = "parts.Embeds"\nargs = {num_embeddings = 2, embedding_dim = 1, sparse = true}',
    )
    with pytest.raises(RunError, match=r"\[optimizer\] Adam can't step: .*sparse"):
        dry_run(Experiment.load(tiny.write(sparse)))


HOOK = """

class Strict:
    # Prepares itself when a run starts, as hooks may.
    def answer(self, hook):
        write("asked.jsonl", hook)
        return self.prepared

    @hookimpl.on_run_start
    def on_run_start(self):
        self.prepared = None

    @hookimpl.autocast
    def autocast(self):
        write("asked.jsonl", "autocast")

    @hookimpl.backward
    def backward(self):
        return self.answer("backward")

    @hookimpl.on_gradients_ready
    def on_gradients_ready(self):
        self.answer("on_gradients_ready")

    @hookimpl.optimizer_step
    def optimizer_step(self):
        return self.answer("optimizer_step")
"""
STRICT = ("[dataset]", '[[hooks]]\npath = "parts.Strict"\n[dataset]')


def test_hooks_that_prepare_themselves_when_a_run_starts_are_not_asked(tmp_path):
    tiny = TinyExperiment(tmp_path, PARTS + HOOK)
    dry_run(Experiment.load(tiny.write(STRICT)))
    assert lines(tiny, "asked.jsonl") == [["autocast"], ["autocast"]]
    tiny.run(STRICT, ("max_epochs = 2", "max_epochs = 1"))
    asked = {hook for [hook] in lines(tiny, "asked.jsonl")}
    assert asked == {"autocast", "backward", "on_gradients_ready", "optimizer_step"}


@pytest.fixture
def threads():
    """Restores the number of threads of torch."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("count", "passes", "fact"),
    [(1, 2, "1"), (2, 4, r"2; [0-9.]+ times as fast as 1 \([0-9.]+ s a batch\)(: set .*)?")],
)
def test_several_threads_are_compared_with_one(tiny, threads, count, passes, fact):
    changes = (*NET, ('device = "cpu"', f'device = "cpu"\nnum_threads = {count}'))
    facts = dry_run(Experiment.load(tiny.write(*changes)))
    assert re.fullmatch(fact, facts["threads"])
    assert len(lines(tiny, "gradients.jsonl")) == passes
    assert torch.get_num_threads() == count


def test_several_threads_that_gain_little_are_advised_against():
    assert "num_threads = 1" not in thread_fact(2, seconds=1.0, seconds_of_one=1.6)
    assert thread_fact(2, seconds=1.0, seconds_of_one=1.1).endswith("set `num_threads = 1` in [meta]")
