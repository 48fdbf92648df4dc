"""Each sample of a data set has an ID of its own, by which results can be written on any file system."""

from __future__ import annotations

import os
import random
import unicodedata

import pytest
import torch

from audiozen.dataset import AudioFolder, DnsChallenge, NoisyCleanFolders, NoisySpeechMix
from audiozen_core.audio.writing import write_audio
from audiozen_core.errors import DataError
from audiozen_plugins.dataset.ids import unique_ids


def folded(ids):
    return {unicodedata.normalize("NFC", name).casefold() for name in ids}


@pytest.fixture
def odd_names(write):
    """Writes files below a folder whose names could collide in one way or another; returns how many."""

    def write_all(folder):
        names = [
            "a-b/c.wav", "a/b-c.wav", "a/b/c.wav", "a__b.wav", "a_b.wav", "x.wav", "X.wav", "é.wav", "e\u0301.wav",
            "a/x.wav", "A/x.wav", "x~2.wav", "_x.wav", "x_.wav",
        ]  # fmt: skip
        for name in names:
            write(f"{folder}/{name}", seconds=0.2)
        return len(names)

    return write_all


def test_ids_of_audio_folder_are_unique(odd_names, write, tmp_path):
    count = odd_names("in")
    write("in/a/x.flac", seconds=0.1)

    ids = [file.id for file in AudioFolder(tmp_path / "in").files]

    assert len(ids) == len(folded(ids)) == count + 1
    assert {"a-b/c", "a/b-c", "a/b/c", "a/x.flac"} <= set(ids)


def test_ids_of_noisy_clean_folders_are_unique_and_belong_to_the_right_files(odd_names, tmp_path):
    count = odd_names("noisy")
    odd_names("clean")
    data = NoisyCleanFolders(tmp_path / "noisy", tmp_path / "clean")

    ids = [data[index]["id"] for index in range(len(data))]

    assert len(ids) == len(folded(ids)) == count
    for pair in data.pairs:
        noisy, clean = pair.files["noisy"], pair.files["clean"]
        assert noisy.relative_to(tmp_path / "noisy") == clean.relative_to(tmp_path / "clean")


def test_ids_of_dns_challenge_are_unique(write, tmp_path):
    for number, name in ((1, "a"), (2, "A"), (11, "a")):
        write(f"noisy/{name}_fileid_{number}.wav")
        write(f"clean/clean_fileid_{number}.wav")
    data = DnsChallenge(tmp_path)

    assert len(folded(data[index]["id"] for index in range(3))) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        {"snrs": [-5, 0, 5, 5.00001, 1e-5, 2e-5]},
        {"snrs": [0], "items_per_epoch": 100},
        {"snrs": [0, 5], "items_per_epoch": 7},
        {"snr_range": [3, 3], "fixed": True, "clip_seconds": 0.1, "items_per_epoch": 100},
        {"snr_range": [3, 3], "clip_seconds": 0.1, "items_per_epoch": 100},
        {"snrs": [3, 3], "fixed": False, "items_per_epoch": 100},
    ],
)
def test_ids_of_mixtures_are_unique(odd_names, tmp_path, arguments):
    odd_names("speech")
    odd_names("noise")
    data = NoisySpeechMix(speech_dir=tmp_path / "speech", noise_dir=tmp_path / "noise", **arguments)
    random.seed(0)

    ids = [data[index]["id"] for index in range(len(data))]

    assert len(folded(ids)) == len(ids) == len(data)
    assert not any("/" in name for name in ids)


def test_files_of_a_manifest_with_equal_stems_have_different_ids(write, tmp_path):
    rows = ["file,role,voice,kind,split", "n.wav,noise,,hum,test"]
    write("n.wav")
    for name in ("a/one.wav", "b/one.wav", "b/one.flac"):
        write(name)
        rows.append(f"{name},speech,anna,en,test")
    (tmp_path / "m.csv").write_text("\n".join(rows))
    data = NoisySpeechMix(tmp_path / "m.csv", snrs=[0])

    assert [data[index]["id"] for index in range(3)] == [
        "anna-one__hum-n__snr+0", "anna-one~2__hum-n__snr+0", "anna-one~3__hum-n__snr+0",
    ]  # fmt: skip


def test_repeated_snr_of_a_fixed_set_is_an_error(write, tmp_path):
    write("speech/a.wav")
    write("noise/b.wav")

    with pytest.raises(DataError, match=r"`snrs` is \[5, 0, 5\.0\], with an SNR that is repeated"):
        NoisySpeechMix(speech_dir=tmp_path / "speech", noise_dir=tmp_path / "noise", snrs=[5, 0, 5.0])


def test_utterances_are_joined_within_a_folder_only(write, tmp_path):
    write("noise/n.wav")
    for folder in ("a-b", "a/b"):
        for index in range(3):
            write(f"speech/{folder}/{index}.wav", seconds=0.2)
    data = NoisySpeechMix(speech_dir=tmp_path / "speech", noise_dir=tmp_path / "noise", clip_seconds=1.5)
    random.seed(0)

    for index in range(50):
        used = {data.speech.recordings[place].path.parent for place, _, _ in data.draw(index % len(data)).speech}
        assert len(used) == 1


def test_bytes_that_are_not_utf8_are_escaped_in_ids():
    assert unique_ids([os.fsdecode(b"caf\xe9"), os.fsdecode(b"caf\xea"), r"caf\xe9"]) == [
        r"caf\xe9", r"caf\xea", r"caf\xe9~2",
    ]  # fmt: skip


def test_long_names_are_cut_to_what_a_file_can_be_called_and_stay_different(tmp_path):
    long = ["a" * 300 + end for end in "xy"] + ["ä" * 120 + "z", "folder/" + "b" * 250, "b" * 230, "語" * 76]
    ids = unique_ids([*long, long[0]])
    assert len(set(ids)) == 7
    assert ids[4:6] == ["b" * 230, "語" * 76]  # they fit
    for id in ids:
        assert write_audio(tmp_path / f"{id}_enhanced.wav", torch.zeros(4), 16000) == 0
    assert unique_ids([long[0]]) == ids[:1]  # the same name in every run
