"""Samples that can't be read raise an error that names the file, or are skipped and counted."""

import contextlib
import re

import pytest
import torch
from torch.utils.data import IterableDataset

from audiozen_core.data.loader import BatchLoader
from audiozen_core.data.unreadable import UnreadableSamples
from audiozen_core.errors import DataError, RunError
from audiozen_core.hooks.marker import hookimpl
from audiozen_plugins.hooks.checkpoint import Checkpoint
from tests.tiny_training import Pairs, TinyTrainer, make_trainer, state_of


class Holes(Pairs):
    """A data set in which the files with the given indices are broken."""

    def __init__(self, *broken, size=12):
        super().__init__(size)
        self.broken = broken

    def __getitem__(self, index):
        if index in self.broken:
            raise DataError(f"`clip_{index}.wav` is not audio", remedy="replace the file")
        return super().__getitem__(index)


def loader(*broken, **options):
    return BatchLoader(Holes(*broken), batch_size=4, **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_error_names_a_file_that_cannot_be_read(workers):
    with pytest.raises(DataError) as error:
        list(loader(5, num_workers=workers).epoch(1))
    assert error.value.message == "`clip_5.wav` is not audio"
    assert error.value.remedy == "replace the file"


@pytest.mark.parametrize("workers", [0, 2])
def test_skipped_sample_does_not_change_the_others(workers):
    unreadable = UnreadableSamples("skip", limit=1)
    batches = list(loader(5, num_workers=workers).epoch(1, unreadable=unreadable))
    whole = list(loader().epoch(1))
    assert [len(batch["x"]) for batch in batches] == [4, 3, 4]
    assert torch.equal(batches[1]["y"], whole[1]["y"][[0, 2, 3]])
    assert unreadable.skipped == {"`clip_5.wav` is not audio"}


def test_error_after_too_many_skipped_samples_names_the_last_sample():
    with pytest.raises(DataError, match=r"2 samples can't be read, more than `max_bad_data = 1`.*clip_7"):
        list(loader(5, 7).epoch(1, unreadable=UnreadableSamples("skip", limit=1)))


def test_file_that_is_skipped_in_every_epoch_is_counted_once():
    trainer = make_trainer(max_epochs=4, on_bad_data="skip", max_bad_data=2)
    trainer.train(loader(2, 9), [loader(2)])
    assert len(trainer.unreadable.skipped) == 2
    assert trainer.progress.step == 12


def test_test_mode_does_not_report_samples_that_the_training_skipped(capsys):
    trainer = make_trainer(max_epochs=3, on_bad_data="skip", max_bad_data=2)
    trainer.train(loader(2))
    assert "unreadable samples" not in capsys.readouterr().err
    trainer.test([loader(5)])
    assert re.search("unreadable samples of the test run are skipped .*count=1", capsys.readouterr().err)


def test_a_batch_without_readable_samples_is_still_a_step():
    trainer = make_trainer(max_epochs=2, on_bad_data="skip", max_bad_data=9)
    trainer.train(loader(4, 5, 6, 7), [loader(4, 5, 6, 7)])
    assert trainer.progress.step == 6
    assert len(trainer.scalars.per_batch) == 2


def test_unreadable_sample_stops_the_training_by_default():
    with pytest.raises(DataError, match="clip_2"):
        make_trainer().train(loader(2))


def test_os_error_makes_a_sample_unreadable():
    class Gone(Pairs):
        def __getitem__(self, index):
            raise OSError(5, "Input/output error", "clip.wav")

    with pytest.raises(DataError, match=r"sample 0 of the data set Gone can't be read: .*clip.wav"):
        list(BatchLoader(Gone()).epoch(1))


def test_an_error_in_the_code_of_a_data_set_is_never_skipped():
    class Wrong(Pairs):
        def __getitem__(self, index):
            return {}["x"]

    with pytest.raises(DataError, match="sample 0 of the data set Wrong can't be loaded: KeyError: 'x'"):
        list(BatchLoader(Wrong()).epoch(1, unreadable=UnreadableSamples("skip", limit=99)))


class Stream(IterableDataset):
    """Six random numbers from each worker, followed by an unreadable file if `broken` is set."""

    shards_itself = True

    def __init__(self, broken=False):
        self.broken = broken

    def __iter__(self):
        for _ in range(6):
            yield torch.rand(1)
        if self.broken:
            raise DataError("`last.wav` is not audio")


def test_an_error_in_a_stream_is_never_skipped():
    with pytest.raises(DataError, match=r"last\.wav"):
        list(BatchLoader(Stream(broken=True), batch_size=2).epoch(1, unreadable=UnreadableSamples("skip", limit=9)))


@pytest.mark.parametrize("workers", [0, 2])
def test_stream_gives_the_same_batches_from_any_start(workers):
    whole = list(BatchLoader(Stream(), batch_size=2, seed=3, num_workers=workers).epoch(2))
    torch.rand(7)
    again = BatchLoader(Stream(), batch_size=2, seed=3, num_workers=workers)
    assert not torch.equal(torch.cat(whole), torch.cat(list(again.epoch(1))))
    before = torch.get_rng_state()
    assert torch.equal(torch.cat(whole[1:]), torch.cat(list(again.epoch(2, start=1))))
    assert torch.equal(before, torch.get_rng_state())


def test_stream_cannot_resume_within_an_epoch_with_another_number_of_workers():
    def stream(workers):
        return BatchLoader(Numbers(), batch_size=2, num_workers=workers)

    class Numbers(Stream):
        def __iter__(self):
            return ({"x": torch.rand(4), "y": torch.rand(1)} for _ in range(6))

    trainer = make_trainer(max_steps=1)
    trainer.train(stream(0))
    state = state_of(trainer)
    state["progress"] |= {"epoch": 0, "batch": 1}
    again = make_trainer(max_epochs=1)
    again.load_checkpoint(state)
    with pytest.raises(RunError, match=r"with the number of workers that it started with: 0, not 2"):
        again.train(stream(2))
    again.train(stream(0))
    assert again.progress.step == 3


@pytest.mark.parametrize("workers", [0, 2])
def test_an_evaluation_without_readable_samples_is_an_error(workers):
    trainer = make_trainer(max_epochs=1, on_bad_data="skip", max_bad_data=99)
    nothing_left = r"the data set Holes has no batches: none of its samples can be read; the first error: `clip_0\.wav`"
    with pytest.raises(DataError, match=nothing_left) as caught:
        trainer.train(loader(), [loader(*range(12), num_workers=workers)])
    assert caught.value.remedy == "replace the file"


@pytest.mark.parametrize("mode", ["validate", "test", "predict"])
def test_each_data_set_of_an_evaluation_needs_a_readable_sample(mode):
    class Everything(TinyTrainer):
        def predict_step(self, batch, batch_idx, dataloader_idx):
            return None

    def run(*loaders):
        getattr(make_trainer(cls=Everything, on_bad_data="skip", max_bad_data=99), mode)(loaders)

    run(loader(3), loader(*range(11)))
    with pytest.raises(DataError, match="none of its samples can be read"):
        run(loader(3), loader(*range(12)))


def test_a_training_without_readable_samples_is_an_error_and_leaves_no_checkpoint(tmp_path):
    hooks = {"checkpoint": Checkpoint()}
    trainer = make_trainer(tmp_path, hooks=hooks, max_epochs=2, on_bad_data="skip", max_bad_data=99)
    with pytest.raises(DataError, match="none of its samples can be read"):
        trainer.train(loader(*range(12)), [loader()])
    assert trainer.progress.epoch == 0
    assert not list(tmp_path.rglob("manifest*"))


class LeaveOut:
    """Leaves out the batches of an epoch that `chosen` accepts."""

    def __init__(self, chosen):
        self.chosen = chosen

    @hookimpl
    def skip_batch(self, trainer, batch_idx):
        return self.chosen(trainer.progress.epoch + 1, batch_idx) or None


def test_an_epoch_in_which_a_hook_leaves_out_each_batch_is_an_error():
    trainer = make_trainer(max_epochs=3, hooks={"leaves": LeaveOut(lambda epoch, batch: epoch == 2)})
    with pytest.raises(RunError, match="no batch of epoch 2 was trained on"):
        trainer.train(loader())
    assert trainer.progress.epoch == 1


def test_one_trained_batch_is_enough_and_the_steps_of_the_others_count():
    trainer = make_trainer(max_epochs=2, hooks={"leaves": LeaveOut(lambda epoch, batch: batch != 1)})
    trainer.train(loader())
    assert trainer.progress.step == 6


def test_resume_knows_whether_the_first_part_of_the_epoch_was_trained_on():
    """The rest of the epoch is left out. This is an error only if the first part was left out, too."""

    def resumed(first_is_left_out):
        leaves = LeaveOut(lambda epoch, batch: batch > 0 or first_is_left_out)
        saved = {}

        class Save:
            @hookimpl
            def on_training_step_end(self, trainer):
                saved.setdefault("state", state_of(trainer))

        trainer = make_trainer(max_epochs=1, hooks={"leaves": leaves, "saves": Save()})
        with contextlib.suppress(RunError):
            trainer.train(loader())
        again = make_trainer(max_epochs=1, hooks={"leaves": leaves})
        again.load_checkpoint(saved["state"])
        assert again.progress.batch == 1
        again.train(loader())
        return again

    assert resumed(first_is_left_out=False).progress.step == 3
    with pytest.raises(RunError, match="no batch of epoch 1 was trained on"):
        resumed(first_is_left_out=True)


def test_stream_that_ends_before_the_resumed_batch_is_an_error():
    batches = BatchLoader(Stream(), batch_size=2).epoch(1, start=4)
    with pytest.raises(DataError, match="ended after 3 batches, but the resumed epoch continues after batch 4"):
        list(batches)
    assert list(BatchLoader(Stream(), batch_size=2).epoch(1, start=3)) == []
