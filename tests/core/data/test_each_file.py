"""`each_file` makes a batch of one file for each file, equal to the batch that this file alone would make."""

from collections import namedtuple

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from audiozen_core.data.each_file import each_file
from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import DataError
from audiozen_plugins.dataset.collate import pad_collate

LENGTHS = (5, 9, 7)


def sample(index):
    wave = torch.arange(1.0, LENGTHS[index] + 1) + 100 * index
    return {
        "id": f"file {index}",
        "noisy": wave,
        "clean": -wave,
        "enrolment": torch.arange(1.0, (9, 4, 6)[index] + 1),
        "single": torch.ones(index + 1),
        "speaker": torch.full((2, 3), index),
        "snr": float(index),
        "sr": 16000,
        "text": ["a", "b", "c"][index],
    }


def same(first, second):
    return first.keys() == second.keys() and all(
        torch.equal(first[key], second[key]) if isinstance(first[key], torch.Tensor) else first[key] == second[key]
        for key in first
    )


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_files_of_a_batch_are_the_batches_of_a_loader_with_batch_size_one(batch_size):
    samples = [sample(index) for index in range(3)]
    alone = list(BatchLoader(samples, collate_fn=pad_collate).epoch(0))
    batches = BatchLoader(samples, batch_size=batch_size, collate_fn=pad_collate).epoch(0)
    apart = [file for batch in batches for file in each_file(batch)]
    assert len(apart) == 3
    assert all(same(*pair) for pair in zip(apart, alone, strict=True))


def test_signal_with_lengths_of_its_own_is_cut_to_these():
    batch = pad_collate([sample(index) for index in range(3)])
    assert batch["enrolment"].shape == batch["noisy"].shape == (3, 9)  # both are as wide, but not of equal lengths
    assert batch["enrolment_length"].tolist() == [9, 4, 6]
    files = list(each_file(batch))
    assert [file["enrolment"].shape[-1] for file in files] == [9, 4, 6]
    assert [file["noisy"].shape[-1] for file in files] == list(LENGTHS)
    assert [file["single"].shape[-1] for file in files] == [1, 2, 3]


@pytest.mark.parametrize("lengths", [[9, 4, 10], [9, -1, 6], [9, 4], [9.0, 4.0, 6.0]])
def test_lengths_that_a_signal_can_not_have_are_an_error(lengths):
    batch = pad_collate([sample(index) for index in range(3)]) | {"enrolment_length": lengths}
    with pytest.raises(DataError, match="`enrolment_length` of the batch"):
        list(each_file(batch))


def test_waveforms_with_channels_are_cut_and_batches_without_lengths_are_not():
    batch = {"noisy": torch.ones(2, 1, 8), "length": torch.tensor([8, 3])}
    assert [file["noisy"].shape[-1] for file in each_file(batch)] == [8, 3]
    assert [file["noisy"].shape for file in each_file({"noisy": batch["noisy"]})] == [(1, 1, 8), (1, 1, 8)]


def test_a_change_of_a_file_does_not_change_the_batch():
    batch = {"noisy": torch.ones(2, 4)}
    for file in each_file(batch):
        file["noisy"].zero_()
    assert batch["noisy"].sum() == 8


@pytest.mark.parametrize("form", [torch.tensor, np.array, list, tuple, lambda given: list(np.array(given))])
@pytest.mark.parametrize("width", [6, 9])
def test_padding_is_cut_whatever_the_form_of_the_lengths_and_however_long_the_padding(form, width):
    """A collate function may pad to a fixed length, which no file of the batch has."""
    padded = {"noisy": torch.ones(2, width), "clean": torch.ones(2, width), "mask": torch.ones(2, 1, width)}
    batch = {**padded, "speaker": torch.ones(2, 4), "length": form((6, 3)), "snr": np.array([5.0, 7.0])}
    files = list(each_file(batch))
    for key in padded:
        assert [file[key].shape[-1] for file in files] == [6, 3]
    assert [file["speaker"].shape for file in files] == [(1, 4), (1, 4)]
    assert [file["snr"].tolist() for file in files] == [[5.0], [7.0]]


def test_signals_of_other_names_are_cut_to_the_longest_file():
    files = each_file({"mixture": torch.ones(2, 6), "length": [6, 3]})
    assert [file["mixture"].shape[-1] for file in files] == [6, 3]


@pytest.mark.parametrize(
    "length", [[3], [3, 2, 1], torch.tensor([3.0, 2.0]), [0.5, 1.0], [3, 0], [-1, 3], 3, torch.tensor(3), "ab", []]
)
def test_length_that_is_not_a_number_of_samples_for_each_file_is_an_error(length):
    with pytest.raises(DataError, match=r"`length` of the batch is .* 2, one for each file"):
        list(each_file({"noisy": torch.ones(2, 3), "length": length}))


@pytest.mark.parametrize("batch", [{"noisy": torch.ones(2, 3)}, {"mixture": torch.ones(2, 9)}])
def test_length_that_fits_no_signal_is_an_error(batch):
    with pytest.raises(DataError, match="the longest file of the batch has 4 samples, but the batch has"):
        list(each_file({**batch, "length": [4, 2]}))


Two = namedtuple("Two", "first second")


def nested(index):
    wave = torch.arange(6.0) + 10 * index
    return {
        "id": f"file {index}",
        "noisy": wave,
        "sources": [wave, -wave],
        "three": (wave, wave + 1, wave + 2),
        "deep": {"pair": [{"x": wave + 3}, {"x": wave + 4}], "name": f"n{index}", "number": index},
        "two": Two(wave, wave + 5),
        "words": ["a", "b", "c", "d", "e"],
    }


def flat(value):
    if isinstance(value, torch.Tensor):
        return [value.shape, value.tolist()]
    if isinstance(value, dict):
        return {key: flat(entry) for key, entry in value.items()}
    return list(map(flat, value)) if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4])
def test_lists_and_dicts_that_torch_has_collated_are_taken_apart_for_every_batch_size(batch_size):
    samples = [nested(index) for index in range(4)]
    batches = BatchLoader(samples, batch_size=batch_size).epoch(0)
    files = [file for batch in batches for file in each_file(batch)]
    for file, sample in zip(files, samples, strict=True):
        assert flat(file) == flat(default_collate([sample]))
        assert isinstance(file["two"], Two)


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_a_list_of_what_each_file_has_is_taken_apart_by_the_files(batch_size):
    samples = [{"noisy": torch.ones(5), "lists": [torch.ones(5), torch.ones(3)], "tags": "ab"[:index].split()}
               for index in range(3)]  # fmt: skip
    files = [file for batch in BatchLoader(samples, batch_size=batch_size, collate_fn=pad_collate).epoch(0)
             for file in each_file(batch)]  # fmt: skip
    for file, sample in zip(files, samples, strict=True):
        assert flat(file["lists"]) == flat([sample["lists"]])
        assert file["tags"] == [sample["tags"]]


def test_padding_within_a_list_is_cut():
    files = list(each_file({"sources": [torch.ones(2, 6), torch.ones(2, 6)], "length": [6, 3]}))
    assert [[source.shape for source in file["sources"]] for file in files] == [[(1, 6)] * 2, [(1, 3)] * 2]


@pytest.mark.parametrize(
    "value", [[torch.ones(2, 4), torch.ones(2, 5)], [("a", "b"), ("c", "d")], [torch.ones(2), ["a", "b"]]]
)
def test_a_list_that_can_be_read_in_two_ways_is_an_error(value):
    with pytest.raises(DataError, match=r"`inner.value` of a batch of 2 files is a list"):
        list(each_file({"noisy": torch.ones(2, 3), "inner": {"value": value}}))
