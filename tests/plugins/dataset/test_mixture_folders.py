"""Ready-made mixtures in the layout of WSJ0-2mix and LibriMix."""

from __future__ import annotations

import shutil

import pytest
import torch

from audiozen.dataset import MixtureFolders
from audiozen_core.errors import DataError


@pytest.fixture
def folder(write, tmp_path):
    for name, seconds in (("b", 0.3), ("a", 0.2)):
        for part in ("mix", "s1", "s2", "mix_both"):
            write(f"data/{part}/{name}.wav", seconds=seconds)
    return tmp_path / "data"


def test_files_of_the_same_name_make_an_item(folder):
    data = MixtureFolders(folder)
    sample = data[1]
    assert [data[index]["id"] for index in range(len(data))] == ["a", "b"]
    assert list(sample) == ["id", "noisy", "source_1", "source_2", "sr"]
    assert {wave.shape for key, wave in sample.items() if key not in ("id", "sr")} == {(4800,)}


def test_segment_is_the_same_in_all_files(folder):
    shutil.rmtree(folder / "s1")
    shutil.copytree(folder / "mix", folder / "s1")
    sample = MixtureFolders(folder, clip_seconds=0.1)[0]
    assert torch.equal(sample["noisy"], sample["source_1"])
    assert len(sample["noisy"]) == 1600
    assert not torch.equal(sample["noisy"], sample["source_2"])


def test_mixture_may_be_in_another_folder(folder):
    data = MixtureFolders(folder, mixture="mix_both")
    assert data.mixtures[0].files["noisy"].parent.name == "mix_both"


def test_fewer_speakers_than_asked_are_one_error(folder):
    with pytest.raises(DataError, match="has no folder `s3`, but a mixture has 3 speakers"):
        MixtureFolders(folder, num_speakers=3)


def test_file_without_a_partner_is_an_error_that_names_it(folder):
    (folder / "s2/a.wav").unlink()
    with pytest.raises(DataError, match=r"2 files without a partner in") as error:
        MixtureFolders(folder)
    assert len(error.value.notes) == 2
    assert all("`a`" in note for note in error.value.notes)


def test_files_of_different_length_are_an_error(folder, write):
    write("data/s2/a.wav", seconds=0.1)
    with pytest.raises(DataError, match=r"mix/a\.wav` has 3200 samples, but its source_2 partner `.*a\.wav` has 1600"):
        MixtureFolders(folder)
