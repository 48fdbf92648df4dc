"""Samples that can't be read: an error that names the file, or left out and counted."""

import pytest
import torch
from torch.utils.data import IterableDataset

from audiozen_core.data.loader import BatchLoader
from audiozen_core.data.unreadable import BadData
from audiozen_core.errors import DataError, RunError
from tests.tiny_training import Pairs, make_trainer


class Holes(Pairs):
    """Some of the files are broken."""

    def __init__(self, *broken, size=12):
        super().__init__(size)
        self.broken = broken

    def __getitem__(self, index):
        if index in self.broken:
            raise DataError(f"`clip_{index}.wav` is not audio", remedy="make it anew")
        return super().__getitem__(index)


def loader(*broken, **options):
    return BatchLoader(Holes(*broken), batch_size=4, **options)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_cannot_be_read_is_an_error_that_names_it(workers):
    with pytest.raises(DataError) as error:
        list(loader(5, num_workers=workers).epoch(1))
    assert error.value.message == "`clip_5.wav` is not audio"
    assert error.value.remedy == "make it anew"


@pytest.mark.parametrize("workers", [0, 2])
def test_skip_leaves_it_out_and_the_others_are_as_they_were(workers):
    bad_data = BadData("skip", limit=1)
    batches = list(loader(5, num_workers=workers).epoch(1, bad_data=bad_data))
    whole = list(loader().epoch(1))
    assert [len(batch["x"]) for batch in batches] == [4, 3, 4]
    assert torch.equal(batches[1]["y"], whole[1]["y"][[0, 2, 3]])
    assert bad_data.left_out == {"`clip_5.wav` is not audio"}


def test_one_too_many_is_an_error_that_names_the_last():
    with pytest.raises(DataError, match=r"2 samples can't be read, more than `max_bad_data = 1`.*clip_7"):
        list(loader(5, 7).epoch(1, bad_data=BadData("skip", limit=1)))


def test_the_same_file_counts_once_however_often_it_comes():
    trainer = make_trainer(max_epochs=4, on_bad_data="skip", max_bad_data=2)
    trainer.train(loader(2, 9), [loader(2)])
    assert len(trainer.bad_data.left_out) == 2
    assert trainer.progress.step == 12


def test_what_a_training_leaves_out_is_not_counted_against_the_next_test(capsys):
    trainer = make_trainer(max_epochs=3, on_bad_data="skip", max_bad_data=2)
    trainer.train(loader(2))
    assert "are missing" not in capsys.readouterr().err
    trainer.test([loader(5)])
    assert "1 samples are missing from the test" in capsys.readouterr().err


def test_a_batch_of_which_nothing_is_left_keeps_its_place():
    trainer = make_trainer(max_epochs=2, on_bad_data="skip", max_bad_data=9)
    trainer.train(loader(4, 5, 6, 7), [loader(4, 5, 6, 7)])
    assert trainer.progress.step == 6
    assert len(trainer.scalars.steps) == 2


def test_the_default_is_to_stop():
    with pytest.raises(DataError, match="clip_2"):
        make_trainer().train(loader(2))


def test_an_error_of_the_operating_system_is_one_of_the_data_too():
    class Gone(Pairs):
        def __getitem__(self, index):
            raise OSError(5, "Input/output error", "clip.wav")

    with pytest.raises(DataError, match=r"sample 0 of the data set can't be read: .*clip.wav"):
        list(BatchLoader(Gone()).epoch(1))


def test_a_mistake_in_a_data_set_is_none_of_the_data():
    class Wrong(Pairs):
        def __getitem__(self, index):
            return {}["x"]

    with pytest.raises(KeyError):
        list(BatchLoader(Wrong()).epoch(1, bad_data=BadData("skip", limit=99)))


class Stream(IterableDataset):
    """Random numbers; the files end with a broken one if wanted."""

    def __init__(self, broken=False):
        self.broken = broken

    def __iter__(self):
        for _ in range(6):
            yield torch.rand(1)
        if self.broken:
            raise DataError("`last.wav` is not audio")


def test_what_ends_a_stream_can_not_be_left_out():
    with pytest.raises(DataError, match=r"last\.wav"):
        list(BatchLoader(Stream(broken=True), batch_size=2).epoch(1, bad_data=BadData("skip", limit=9)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_draws_the_same_from_its_seed_wherever_it_starts(workers):
    whole = list(BatchLoader(Stream(), batch_size=2, seed=3, num_workers=workers).epoch(2))
    torch.rand(7)
    again = BatchLoader(Stream(), batch_size=2, seed=3, num_workers=workers)
    assert not torch.equal(torch.cat(whole), torch.cat(list(again.epoch(1))))
    before = torch.get_rng_state()
    assert torch.equal(torch.cat(whole[1:]), torch.cat(list(again.epoch(2, start=1))))
    assert torch.equal(before, torch.get_rng_state())


def test_a_stream_does_not_go_on_in_its_midst_with_other_workers():
    def stream(workers):
        return BatchLoader(Numbers(), batch_size=2, num_workers=workers)

    class Numbers(Stream):
        def __iter__(self):
            return ({"x": torch.rand(4), "y": torch.rand(1)} for _ in range(6))

    trainer = make_trainer(max_steps=1)
    trainer.train(stream(0))
    state = trainer.checkpoint()
    state["progress"] |= {"epoch": 0, "batch": 1}
    again = make_trainer(max_epochs=1)
    again.load_checkpoint(state)
    with pytest.raises(RunError, match=r"with the number of workers that it started with: 0, not 2"):
        again.train(stream(2))
    again.train(stream(0))
    assert again.progress.step == 3


def test_an_evaluation_of_which_nothing_is_left_is_an_error_that_says_so():
    trainer = make_trainer(max_epochs=1, on_bad_data="skip", max_bad_data=99)
    with pytest.raises(DataError, match=r"none of the samples of the validate can be read; the first: `clip_0\.wav`"):
        trainer.train(loader(), [loader(*range(12))])
