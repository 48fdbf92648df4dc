from __future__ import annotations

import random

import pytest
import torch

from audiozen.dataset import DnsChallenge, pad_collate
from audiozen_core.audio.files import read_audio
from audiozen_core.errors import DataError


@pytest.fixture
def root(write, tmp_path):
    """Writes twelve clips named like the synthesiser's. Sorting by name and by number gives different orders."""
    for number in range(12):
        source = f"book_0{number % 3}_snr_reader_{number}-door_snr3"
        write(f"set/noisy/{source}_snr{number - 5}_tl-{20 + number}_fileid_{number}.wav", seconds=0.5)
        write(f"set/clean/clean_fileid_{number}.wav", seconds=0.5)
        write(f"set/noise/noise_fileid_{number}.wav", seconds=0.5)
    return tmp_path / "set"


def test_clips_are_matched_and_ordered_by_the_number_in_their_names(root):
    data = DnsChallenge(root)

    assert len(data) == 12
    for number in range(12):
        sample = data[number]
        assert sample["id"].endswith(f"_fileid_{number}")
        assert sample["snr"] == number - 5
        assert torch.equal(sample["clean"], read_audio(root / "clean" / f"clean_fileid_{number}.wav", sr=16000))
        assert torch.equal(sample["noisy"], read_audio(root / "noisy" / f"{sample['id']}.wav", sr=16000))


def test_limit_and_offset_select_clips(root):
    ids = [sample["id"] for sample in DnsChallenge(root)]

    assert [sample["id"] for sample in DnsChallenge(root, limit=3)] == ids[:3]
    assert [sample["id"] for sample in DnsChallenge(root, offset=10)] == ids[10:]
    assert [sample["id"] for sample in DnsChallenge(root, limit=4, offset=5)] == ids[5:9]
    assert len(DnsChallenge(root, limit=99, offset=2)) == 10


def test_missing_noise_folder_and_extra_files_are_ignored(root, write):
    for path in (root / "noise").iterdir():
        path.unlink()
    (root / "noise").rmdir()
    write("set/clean/clean_fileid_77.wav")
    (root / "noisy" / "notes.txt").touch()

    assert len(DnsChallenge(root)) == 12


def test_names_of_both_challenges_are_read(write, tmp_path):
    write("noisy/noisy_fileid_3_book-door_snr-2_tl-25.wav")
    write("clean/clean_fileid_3.wav")

    assert DnsChallenge(tmp_path)[0]["snr"] == -2


def test_items_have_an_snr_only_if_every_name_has_one(root, write):
    write("set/noisy/plain_fileid_40.wav")
    write("set/clean/clean_fileid_40.wav")

    samples = [DnsChallenge(root)[index] for index in (0, 12)]

    assert all("snr" not in sample for sample in samples)
    assert pad_collate(samples)["noisy"].shape == (2, 16000)
    assert DnsChallenge(root, limit=12)[0]["snr"] == -5


def test_training_clip_is_the_same_segment_of_both_files(root):
    data = DnsChallenge(root, clip_seconds=0.1)
    noisy = read_audio(root / "noisy" / f"{data[2]['id']}.wav", sr=16000).unfold(0, 1600, 1)
    clean = read_audio(root / "clean" / "clean_fileid_2.wav", sr=16000).unfold(0, 1600, 1)

    random.seed(0)
    starts = []
    for _ in range(8):
        sample = data[2]
        (start,) = (noisy == sample["noisy"]).all(1).nonzero().flatten().tolist()
        assert torch.equal(clean[start], sample["clean"])
        starts.append(start)

    assert len(set(starts)) == 8
    random.seed(0)
    assert torch.equal(noisy[starts[0]], data[2]["noisy"])


@pytest.mark.parametrize(
    ("break_it", "what"),
    [
        (
            lambda root: (root / "clean" / "clean_fileid_7.wav").unlink(),
            r"1 of 12 .*no clean partner: `.*_fileid_7\.wav`",
        ),
        (
            lambda root: [path.unlink() for path in (root / "noisy").iterdir()],
            "the folder `.*noisy` has no audio files",
        ),
        (
            lambda root: [path.unlink() for path in (root / "clean").iterdir()],
            "the folder `.*clean` has no audio files",
        ),
        (lambda root: (root / "noisy" / "odd.wav").touch(), r"odd\.wav` has no `fileid_<number>`"),
        (lambda root: (root / "clean" / "again_fileid_07.wav").touch(), "two files with the number 7"),
        (lambda root: (root / "noisy").rename(root / "loud"), "the folder `.*noisy` does not exist"),
    ],
)
def test_error_describes_an_unexpected_layout_of_the_folder(root, break_it, what):
    break_it(root)

    with pytest.raises(DataError, match=what):
        DnsChallenge(root)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ({"offset": 12}, "`offset = 12` skips all 12 clips"),
        ({"offset": -1}, "`offset` is -1"),
        ({"limit": 0}, "`limit` is 0"),
        ({"clip_seconds": -1}, "`clip_seconds` is -1"),
    ],
)
def test_error_names_an_invalid_argument(root, arguments, what):
    with pytest.raises(DataError, match=what):
        DnsChallenge(root, **arguments)


def test_error_names_a_missing_root():
    with pytest.raises(DataError, match="the folder `nowhere` does not exist"):
        DnsChallenge("nowhere")


def test_reading_partners_of_different_length_or_rate_is_an_error(root, write):
    write("set/clean/clean_fileid_1.wav", seconds=0.4)
    write("set/clean/clean_fileid_2.wav", seconds=0.5, sr=8000)
    data = DnsChallenge(root)

    with pytest.raises(DataError, match=r"8000 samples, but its clean partner `.*clean_fileid_1\.wav` has 6400"):
        data[1]
    with pytest.raises(DataError, match=r"clean_fileid_2\.wav` has a sample rate of 8000 Hz"):
        data[2]
