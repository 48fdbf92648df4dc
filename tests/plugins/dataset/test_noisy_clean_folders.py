from __future__ import annotations

import random

import pytest
import torch
from torch.utils.data import DataLoader

from audiozen.dataset import NoisyCleanFolders
from audiozen_core.audio.files import read_audio
from audiozen_core.errors import DataError


@pytest.fixture
def folders(write, tmp_path):
    for name, seconds in (("b", 1.0), ("a", 0.5), ("deep/c", 0.25)):
        write(f"noisy/{name}.wav", seconds=seconds)
        write(f"clean/{name}.flac", seconds=seconds)
    return {"noisy_dir": tmp_path / "noisy", "clean_dir": tmp_path / "clean"}


def test_files_are_matched_by_name_without_the_extension(folders):
    data = NoisyCleanFolders(**folders)

    assert [sample["id"] for sample in (data[index] for index in range(len(data)))] == ["a", "b", "deep/c"]
    for name, index in (("a", 0), ("deep/c", 2)):
        assert torch.equal(data[index]["noisy"], read_audio(folders["noisy_dir"] / f"{name}.wav", sr=16000))
        assert torch.equal(data[index]["clean"], read_audio(folders["clean_dir"] / f"{name}.flac", sr=16000))


def test_training_clips_are_cut_and_shorter_files_padded_in_the_batch(folders):
    data = NoisyCleanFolders(**folders, clip_seconds=0.5)

    random.seed(0)
    batch = next(iter(DataLoader(data, batch_size=3, collate_fn=data.collate_fn)))

    assert batch["noisy"].shape == batch["clean"].shape == (3, 8000)
    assert batch["length"].tolist() == [8000, 8000, 4000]
    assert not batch["noisy"][2, 4000:].any()


def test_error_lists_names_that_are_in_only_one_folder(folders, write):
    for number in range(5):
        write(f"noisy/extra_{number}.wav")
    write("clean/lonely.wav")

    with pytest.raises(DataError) as error:
        NoisyCleanFolders(**folders)

    text = str(error.value)
    assert "6 files" in text
    assert f"only in `{folders['noisy_dir']}`: `extra_0`, `extra_1`, `extra_2`, and 2 more" in text
    assert f"only in `{folders['clean_dir']}`: `lonely`" in text


def test_two_files_with_the_same_name_in_one_folder_are_an_error(folders, write):
    write("noisy/a.flac")

    with pytest.raises(DataError, match=r"two files with the name `a`: `a\.flac`, `a\.wav`"):
        NoisyCleanFolders(**folders)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        ({"seconds": 0.4}, r"a\.wav` has 8000 samples, but its clean partner `.*a\.flac` has 6400"),
        ({"seconds": 0.5, "sr": 8000}, r"a\.flac` has a sample rate of 8000 Hz"),
    ],
)
def test_unfitting_pair_is_an_error_when_checked_or_when_read(folders, write, wrong, what):
    write("clean/a.flac", **wrong)

    with pytest.raises(DataError, match=what):
        NoisyCleanFolders(**folders)
    unchecked = NoisyCleanFolders(**folders, check=False)
    assert unchecked[1]["id"] == "b"
    with pytest.raises(DataError, match=what):
        unchecked[0]


def test_error_names_an_empty_or_missing_folder(folders, tmp_path):
    (tmp_path / "empty").mkdir()

    with pytest.raises(DataError, match=r"the folder `.*empty` has no audio files"):
        NoisyCleanFolders(folders["noisy_dir"], tmp_path / "empty")
    with pytest.raises(DataError, match=r"the folder `.*missing` does not exist"):
        NoisyCleanFolders(tmp_path / "missing", folders["clean_dir"])


def test_one_folder_for_both_is_a_warning_before_anything_is_trained(folders, tmp_path, capsys):
    NoisyCleanFolders(**folders)
    assert "are the same" not in capsys.readouterr().err
    (tmp_path / "link").symlink_to(folders["noisy_dir"])
    assert len(NoisyCleanFolders(folders["noisy_dir"], tmp_path / "link")) == 3
    assert capsys.readouterr().err.count("the noisy and the clean folder are the same") == 1
