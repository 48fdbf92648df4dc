"""Each item opens each of its files only once, because opening takes longer than reading on a network drive."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiozen.dataset import AudioFolder, DnsChallenge, NoisyCleanFolders, NoisySpeechMix
from audiozen_core.audio.files import audio_info, read_audio

IO = Path("/proc/thread-self/io")


def test_a_pair_of_folders_opens_both_files_once(write, tmp_path, opened):
    files = [str(write(f"{kind}/a.wav")) for kind in ("noisy", "clean")]
    opened.clear()
    data = NoisyCleanFolders(tmp_path / "noisy", tmp_path / "clean", clip_seconds=0.5)
    assert opened == files  # to check the headers
    opened.clear()
    data[0]
    assert opened == files


def test_a_clip_of_the_dns_challenge_opens_both_files_once(write, tmp_path, opened):
    files = [str(write("noisy/x_snr5_fileid_1.wav")), str(write("clean/clean_fileid_1.wav"))]
    data = DnsChallenge(tmp_path)
    opened.clear()
    data[0]
    assert opened == files


def test_a_file_to_enhance_is_opened_once(write, tmp_path, opened):
    file = str(write("in/a.wav"))
    data = AudioFolder(tmp_path / "in")
    opened.clear()
    data[0]
    assert opened == [file]


def test_a_mixture_opens_both_files_once_if_they_are_not_in_memory(write, tmp_path, opened):
    files = [str(write(f"{kind}/a.wav")) for kind in ("speech", "noise")]
    folders = {"speech_dir": tmp_path / "speech", "noise_dir": tmp_path / "noise"}
    data = {cache_mb: NoisySpeechMix(**folders, cache_mb=cache_mb) for cache_mb in (0, 1)}
    opened.clear()
    data[0][0]
    assert opened == files
    data[1][0]
    assert opened == files


def test_every_way_of_opening_a_file_is_counted(write, opened):
    """Negative control: the tests above would detect a second opening."""
    file = write("a.wav")
    opened.clear()
    audio_info(file)
    read_audio(file, sr=16000)
    soundfile.read(file)
    file.read_bytes()
    assert opened == [str(file)] * 4


def reads(call: Callable[[], object]) -> int:
    """Counts the system calls of this thread that read."""

    def count() -> int:
        with IO.open() as file:
            return int(dict(line.split(": ") for line in file.read().splitlines())["syscr"])

    before, own = count(), count()
    call()
    return count() - own - (own - before)


@pytest.mark.skipif(not IO.exists(), reason="the system does not count the reads of a thread")
@pytest.mark.parametrize(("suffix", "most"), [("wav", 2), ("flac", 10)])
def test_a_stretch_of_a_file_takes_few_reads(tmp_path, suffix, most):
    """The head and the samples of a WAV file; of FLAC also its tail, for the check of its length."""
    for kind in ("noisy", "clean"):
        (tmp_path / kind).mkdir()
        wave = np.random.default_rng(0).uniform(-0.5, 0.5, 160_000)
        soundfile.write(tmp_path / kind / f"a.{suffix}", wave, 16000, subtype="PCM_16")
    data = NoisyCleanFolders(tmp_path / "noisy", tmp_path / "clean", clip_seconds=0.5)
    data[0]
    assert 2 <= reads(lambda: data[0]) <= 2 * most


@pytest.mark.skipif(not IO.exists(), reason="the system does not count the reads of a thread")
def test_each_read_is_counted(write):
    """Negative control: the test above would detect a file that is read twice."""
    file = write("a.wav")
    once = reads(file.read_bytes)
    assert once >= 1
    assert reads(lambda: [file.read_bytes(), file.read_bytes()]) == 2 * once
