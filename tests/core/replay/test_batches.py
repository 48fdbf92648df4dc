"""A batch that is made again is the one of the training, to the last bit, however the training was set up."""

import shutil

import pytest
import torch

from audiozen_core.audio.files import read_audio
from audiozen_core.errors import DataError, RunError
from audiozen_core.experiment.lock import run_lock
from audiozen_core.replay.replay import ProgressReporter, replay
from audiozen_core.replay.target import BatchPosition, Target
from tests.core.replay.waves import WaveExperiment, digest, recorded


def at(epoch: int, batch: int) -> Target:
    return Target(BatchPosition(epoch, batch))


def check_batches(experiment: WaveExperiment, run, *, every: bool = False) -> None:
    kept = list(experiment.kept().items())
    assert len(kept) > 6
    for (epoch, batch), expected in kept if every else (kept[0], kept[len(kept) // 2], kept[-2], kept[-1]):
        found = replay(run, at(epoch, batch), output=experiment.folder / "out")
        assert digest(found.batch) == expected, (epoch, batch)


pytestmark = pytest.mark.usefixtures("_no_pictures")


def test_every_batch_is_that_of_the_training(tiny, run):
    check_batches(tiny, run, every=True)
    # A negative control: the batches differ from each other.
    assert len(set(tiny.kept().values())) == len(tiny.kept()) == 12


SETUPS = {
    "accumulation": [("log_interval = 1", "log_interval = 1\ngradient_accumulation_steps = 3")],
    "steps_per_epoch": [("log_interval = 1", "log_interval = 1\nsteps_per_epoch = 3\ngradient_accumulation_steps = 2")],
    "several data sets": [('[dataset]\npath = "parts.Waves"', '[[dataset]]\npath = "parts.Waves"\nargs.size = 3'),
                          ("[validate_dataset]", '[[dataset]]\npath = "parts.Waves"\n[validate_dataset]')],
    "drop_last": [("batch_size = 2", "batch_size = 2\ndataloader.drop_last = true")],
    "no shuffle": [("batch_size = 2", "batch_size = 2\ndataloader.shuffle = false")],
    "finite stream": [('[dataset]\npath = "parts.Waves"', '[dataset]\npath = "parts.Stream"')],
    "endless stream": [('[dataset]\npath = "parts.Waves"', '[dataset]\npath = "parts.Endless"'),
                       ("log_interval = 1", "log_interval = 1\nsteps_per_epoch = 4")],
}  # fmt: skip


@pytest.mark.parametrize("name", SETUPS)
def test_every_setup_is_replayed(tmp_path, name):
    experiment = WaveExperiment(tmp_path)
    run = experiment.train(*SETUPS[name])
    check_batches(experiment, run)


def test_batches_of_two_workers_are_replayed_without_any(tmp_path):
    experiment = WaveExperiment(tmp_path)
    run = experiment.train(("batch_size = 2", "batch_size = 2\ndataloader.num_workers = 2"))
    check_batches(experiment, run)


def test_batches_after_a_resume_are_replayed(tmp_path):
    experiment = WaveExperiment(tmp_path)
    changes = ("log_interval = 1", "log_interval = 1\nsteps_per_epoch = 3"), ("max_epochs = 3", "max_epochs = 1")
    experiment.train(*changes)
    run = experiment.train(changes[0], resume=True)
    for folder in (run / "checkpoints").glob("epoch_000[12]"):
        shutil.rmtree(folder)  # then the place in the data is counted from the start
    check_batches(experiment, run)


def test_a_batch_without_checkpoints_comes_from_the_record(tiny, run, tmp_path):
    copy = tmp_path / "moved"
    shutil.copytree(run, copy, symlinks=True)
    shutil.rmtree(copy / "checkpoints")
    found = replay(copy, at(2, 1))
    assert digest(found.batch) == tiny.kept()[2, 1]
    assert found.folder == copy / "replay" / "epoch_0002_batch_0001"


def test_waveforms_are_written_as_they_are(run, tmp_path):
    found = replay(run, at(1, 0), output=tmp_path / "out")
    wave = read_audio(next((tmp_path / "out").glob("0_clip_*_noisy.wav")), sr=16000)
    assert torch.equal(wave, found.batch["noisy"][0])
    assert found.samples[0].values["snr"] == float(found.samples[0].id.removeprefix("clip_"))


@pytest.mark.parametrize(("rank", "batch"), [(0, 0), (1, 0), (1, 1)])
def test_batch_of_a_rank(tiny, run, tmp_path, rank, batch):
    copy = run.parent / f"ranks_{rank}_{batch}"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "checkpoints")
    record = next(copy.glob("config__*.toml"))
    record.write_text(record.read_text().replace("# processes: 1", "# processes: 2"))
    found = replay(copy, at(1, batch), rank=rank)
    # The ranks take turns in the batches of the epoch.
    assert digest(found.batch) == tiny.kept()[1, 2 * batch + rank]
    with pytest.raises(RunError, match="has no rank 2"):
        replay(copy, at(1, 0), rank=2)


def test_a_run_of_one_process_has_no_second_rank(run):
    with pytest.raises(RunError, match="a single process, so it has no rank 1"):
        replay(run, at(1, 0), rank=1)


def test_a_step_has_a_place(tiny, run, tmp_path):
    records = recorded(run)
    for step in (1, 4, 5, 12):
        record = records[step]
        found = replay(run, Target(step=step), output=tmp_path / "out")
        assert found.place.epoch == record["epoch"]
        assert found.place == BatchPosition((step - 1) // 4 + 1, (step - 1) % 4)
    with pytest.raises(RunError, match="no step 13"):
        replay(run, Target(step=13))


def test_a_step_of_several_batches_means_its_last_one(tmp_path):
    experiment = WaveExperiment(tmp_path)
    run = experiment.train(SETUPS["accumulation"][0])
    places = [replay(run, Target(step=step), output=tmp_path / "out").place for step in range(1, 5)]
    assert places == [(1, 2), (1, 3), (2, 2), (2, 3)]


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (at(1, 4), "epoch 1 only has the batches 0 to 3, so it has no batch 4"),
        (at(4, 0), "no epoch 4, because it has `max_epochs = 3`"),
    ],
)
def test_a_place_beyond_the_training_is_an_error(run, target, said):
    with pytest.raises(RunError, match=said):
        replay(run, target)


def test_a_batch_beyond_a_stream_is_an_error(tmp_path):
    experiment = WaveExperiment(tmp_path)
    run = experiment.train(*SETUPS["finite stream"])
    with pytest.raises(RunError, match="epoch 1 only has 4 batches, so it has no batch 9"):
        replay(run, at(1, 9))
    with pytest.raises(RunError, match="epoch 1 only has 4 batches, so it has no batch 4"):
        replay(run, at(1, 4))
    # The record of the run says in which epoch the step was.
    assert replay(run, Target(step=6)).place == (2, 1)


def test_what_is_not_a_run_is_an_error(tiny, run, tmp_path):
    with pytest.raises(RunError, match="does not exist"):
        replay(tmp_path / "nothing", at(1, 0))
    with pytest.raises(RunError, match="has no file"):
        replay(tmp_path, at(1, 0))
    with pytest.raises(RunError, match="is an experiment file") as raised:
        replay(tiny.folder / "waves.toml", at(1, 0))
    assert "--preview" in raised.value.remedy


def test_changed_data_is_an_error(run):
    copy = run.parent / "changed"
    shutil.copytree(run, copy)
    record = next(copy.glob("config__*.toml"))
    record.write_text(record.read_text().replace("# training samples: 7", "# training samples: 9"))
    with pytest.raises(RunError, match="has 7 samples now, but had 9"):
        replay(copy, at(1, 0))


def test_a_changed_number_of_batches_is_an_error(tmp_path):
    experiment = WaveExperiment(tmp_path)
    run = experiment.train()
    # As a run of a version that did not record the number of samples.
    record = next(run.glob("config__*.toml"))
    record.write_text(record.read_text().replace("# training samples: 7\n", ""))
    parts = tmp_path / "parts.py"
    parts.write_text(parts.read_text().replace("size: int = 7", "size: int = 70"))
    with pytest.raises(RunError, match="has 35 batches now, but had 4"):
        replay(run, at(3, 0))


def test_data_that_is_gone_is_an_error_that_says_from_where_it_is_looked_for(tmp_path):
    experiment = WaveExperiment(tmp_path)
    run = experiment.train()
    parts = tmp_path / "parts.py"
    gone = 'raise FileNotFoundError(2, "No such file", "clip.wav")'
    parts.write_text(parts.read_text().replace("clean = torch.rand(480) - 0.5", gone))
    with pytest.raises(DataError, match=r"clip\.wav") as raised:
        replay(run, at(1, 0))
    assert any(note.startswith("working directory: ") for note in raised.value.notes)
    assert not (run / "replay").exists()


def test_samples_that_were_left_out_are_left_out(tmp_path):
    experiment = WaveExperiment(tmp_path)
    parts = tmp_path / "parts.py"
    text = parts.read_text().replace(
        "        clean = torch.rand(480) - 0.5\n",
        "        clean = torch.rand(480) - 0.5\n        if index in (1, 2, 3):\n            raise OSError('gone')\n",
    )
    parts.write_text(text)
    skips = ("log_interval = 1", 'log_interval = 1\non_bad_data = "skip"')
    ordered = ("batch_size = 2", "batch_size = 2\ndataloader.shuffle = false")
    run = experiment.train(
        skips, ordered, ('[validate_dataset]\npath = "parts.Waves"\ndataloader.batch_size = 4\n', "")
    )
    check_batches(experiment, run)
    assert (1, 1) not in experiment.kept()  # neither of its samples can be read
    with pytest.raises(DataError, match="none of its samples can be read"):
        replay(run, at(1, 1))
    with pytest.raises(RunError, match="skips batch 1 of epoch 1"):
        replay(run, at(1, 1), step=True, catch_up=True)


def test_a_stream_tells_how_many_batches_come_before(tmp_path):
    experiment = WaveExperiment(tmp_path)
    run = experiment.train(*SETUPS["endless stream"])
    told = []
    progress = ProgressReporter(lambda what, total: told.append(total), told.append)
    replay(run, at(3, 0), progress=progress, output=tmp_path / "out")
    assert told == [8, *range(1, 9)]
    # Nothing comes before the first one, and nothing before any batch of other data.
    replay(run, at(1, 0), progress=progress, output=tmp_path / "out")
    assert len(told) == 9


def test_a_run_that_is_being_written_is_only_read(run, tmp_path):
    with run_lock(run):
        assert replay(run, at(1, 0), output=tmp_path / "out").samples
