"""A batch taken apart is a batch of one file for each file, as the files would be without the others."""

import pytest
import torch

from audiozen_core.data.each_file import each_file
from audiozen_core.data.loader import BatchLoader
from audiozen_plugins.dataset.collate import pad_collate

LENGTHS = (5, 9, 7)


def sample(index):
    wave = torch.arange(1.0, LENGTHS[index] + 1) + 100 * index
    return {
        "id": f"file {index}",
        "noisy": wave,
        "clean": -wave,
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


def test_waveforms_with_channels_are_cut_and_batches_without_lengths_are_not():
    batch = {"noisy": torch.ones(2, 1, 8), "length": torch.tensor([8, 3])}
    assert [file["noisy"].shape[-1] for file in each_file(batch)] == [8, 3]
    assert [file["noisy"].shape for file in each_file({"noisy": batch["noisy"]})] == [(1, 1, 8), (1, 1, 8)]


def test_a_change_of_a_file_does_not_change_the_batch():
    batch = {"noisy": torch.ones(2, 4)}
    for file in each_file(batch):
        file["noisy"].zero_()
    assert batch["noisy"].sum() == 8
