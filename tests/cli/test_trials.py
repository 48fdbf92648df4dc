"""Short runs that show whether an experiment works: `--fast-dev-run` and `--overfit-batches`."""

from __future__ import annotations

import json

import pytest
import torch
from torch.utils.data import IterableDataset

from audiozen_core.data.loader import BatchLoader
from audiozen_core.testing.tiny import TinyExperiment


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path).set("trainer", max_epochs=3, log_interval=1)


@pytest.mark.parametrize("length", [{}, {"steps_per_epoch": 1000, "validation_interval_steps": 400}])
def test_a_fast_dev_run_passes_one_batch_of_each_mode_and_keeps_nothing(audiozen, tiny, tmp_path, length):
    tiny.set("trainer", **length)
    (tmp_path / "counts.py").write_text(
        "from audiozen import hookimpl\n"
        "seen = []\n"
        "class Counts:\n"
        "    @hookimpl\n"
        "    def on_training_step_end(self): seen.append('train')\n"
        "    @hookimpl\n"
        "    def on_evaluation_step_end(self, mode): seen.append(mode)\n"
        "    @hookimpl\n"
        "    def on_checkpoint_saved(self): seen.append('saved')\n"
        "    @hookimpl\n"
        "    def on_teardown(self): open(__file__ + '.txt', 'w').write(' '.join(seen))\n"
    )
    done = audiozen(
        "run", str(tiny.add_hook("counts.Counts").write()), "-M", "train", "test", "predict", "--fast-dev-run"
    )
    assert done.code == 0, done.out + done.err
    assert "One batch of each mode (train, test, predict) has gone through" in done.out + done.err
    assert not (tmp_path / "exp").exists()
    assert (tmp_path / "counts.py.txt").read_text().split() == ["train", "validate", "saved", "test", "predict"]


def test_a_mistake_ends_a_fast_dev_run(audiozen, tiny, tmp_path):
    (tmp_path / "broken.py").write_text(
        "from audiozen import hookimpl\n"
        "class Broken:\n"
        "    @hookimpl\n"
        "    def on_checkpoint_saved(self): raise KeyError('planted')\n"
    )
    done = audiozen("run", str(tiny.add_hook("broken.Broken").write()), "--fast-dev-run")
    assert done.code == 2
    assert "planted" in done.out + done.err
    assert not (tmp_path / "exp").exists()


def test_the_first_batches_are_learnt_in_a_folder_of_their_own(audiozen, tiny, tmp_path):
    tiny.set("trainer", max_epochs=6).set("optimizer", lr=0.02)
    done = audiozen("run", str(tiny.write()), "--overfit-batches", "1")
    assert done.code == 0, done.out + done.err
    lines = (tmp_path / "exp/tiny_overfit/metrics.jsonl").read_text().splitlines()
    losses = [record["train/loss"] for record in map(json.loads, lines) if "train/loss" in record]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert not (tmp_path / "exp/tiny").exists()
    again = audiozen("run", str(tiny.write()), "--overfit-batches", "1")
    assert (again.code, "remove this folder" in again.err, "--resume" in again.err) == (2, True, False)


@pytest.mark.parametrize(
    "options",
    [
        ["--fast-dev-run", "--resume"],
        ["--overfit-batches", "2", "--ckpt-path", "best"],
        ["--fast-dev-run", "--overfit-batches", "2"],
        ["--fast-dev-run", "--nproc-per-node", "2"],
        ["--fast-dev-run", "-M", "test"],
        ["--fast-dev-run", "-M", "test", "train"],
    ],
)
def test_options_that_contradict_each_other_are_refused(audiozen, tiny, options):
    done = audiozen("run", str(tiny.write()), *options)
    assert done.code == 2
    assert "--fast-dev-run" in done.out + done.err


class Random(torch.utils.data.Dataset):
    def __len__(self):
        return 10

    def __getitem__(self, index):
        return index, float(torch.rand(()))


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(index, float(torch.rand(()))) for index in range(10)])


@pytest.mark.parametrize("workers", [0, 1])
def test_every_epoch_of_a_trial_has_the_same_samples(workers):
    options = {"batch_size": 2, "num_workers": workers}
    whole = BatchLoader(Random(), shuffle=True, **options)
    trial = BatchLoader(Random(), shuffle=True, first_batches=3, **options)
    first = [[part.tolist() for part in batch] for batch in whole.epoch(1)]
    assert trial.num_batches == len(trial) == 3
    for epoch in (1, 2):
        assert [[part.tolist() for part in batch] for batch in trial.epoch(epoch)] == first[:3]
    assert [[part.tolist() for part in batch] for batch in whole.epoch(2)] != first
    for loader in (whole, trial):
        loader.close()


def test_a_stream_ends_after_the_first_batches():
    trial = BatchLoader(Stream(), batch_size=2, first_batches=3)
    epochs = [[[part.tolist() for part in batch] for batch in trial.epoch(epoch)] for epoch in (1, 2)]
    assert [indices for indices, _ in epochs[0]] == [[0, 1], [2, 3], [4, 5]]
    assert epochs[0] == epochs[1]


def test_the_ranks_of_a_trial_share_its_batches():
    shares = [BatchLoader(list(range(20)), batch_size=2, share=(rank, 2), first_batches=2) for rank in (0, 1)]
    found = [[[int(x) for x in getattr(batch, "batch", batch)] for batch in share.epoch(1)] for share in shares]
    assert found == [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
