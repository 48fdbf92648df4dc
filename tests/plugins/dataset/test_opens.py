"""Each item opens each of its files only once, because opening takes longer than reading on a network drive."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiozen.dataset import AudioFolder, DnsChallenge, MixtureFolders, NoisyCleanFolders, NoisySpeechMix, SpeakerMix
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


def test_a_mixture_of_speakers_opens_each_file_once_if_it_is_not_in_memory(write, tmp_path, opened):
    files = [str(write(f"speech/{speaker}/a.wav")) for speaker in ("ann", "ben")]
    data = {cache_mb: SpeakerMix(speech_dir=tmp_path / "speech", cache_mb=cache_mb) for cache_mb in (0, 1)}
    opened.clear()
    data[0][0]
    assert sorted(opened) == files
    data[1][0]
    assert sorted(opened) == files


def test_a_mixture_in_folders_opens_each_file_once(write, tmp_path, opened):
    files = [str(write(f"{part}/a.wav")) for part in ("mix", "s1", "s2")]
    opened.clear()
    data = MixtureFolders(tmp_path, clip_seconds=0.5)
    assert opened == files  # to check the headers
    opened.clear()
    data[0]
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


FOLDERS = ("noisy", "clean", "mix", "s1", "s2", "noise", "speech/ann", "speech/ben")


def noisy_clean_folders(folder: Path) -> tuple[NoisyCleanFolders, int]:
    return NoisyCleanFolders(folder / "noisy", folder / "clean", clip_seconds=0.5), 2


def mixture_folders(folder: Path) -> tuple[MixtureFolders, int]:
    return MixtureFolders(folder, clip_seconds=0.5), 3


def noisy_speech_mix(folder: Path) -> tuple[NoisySpeechMix, int]:
    folders = {"speech_dir": folder / "speech", "noise_dir": folder / "noise"}
    return NoisySpeechMix(**folders, clip_seconds=0.5, cache_mb=0), 2


def speaker_mix(folder: Path) -> tuple[SpeakerMix, int]:
    return SpeakerMix(speech_dir=folder / "speech", clip_seconds=0.5, cache_mb=0), 2


@pytest.mark.skipif(not IO.exists(), reason="the system does not count the reads of a thread")
@pytest.mark.parametrize("build", [noisy_clean_folders, mixture_folders, noisy_speech_mix, speaker_mix])
@pytest.mark.parametrize(("suffix", "most"), [("wav", 2), ("flac", 13)])
def test_a_stretch_of_a_file_takes_few_reads(tmp_path, build, suffix, most):
    """A WAV file: the head and the samples. FLAC: also a search for the samples, and the tail, for the length."""
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 160_000)
    for folder in FOLDERS:
        (tmp_path / folder).mkdir(parents=True)
        soundfile.write(tmp_path / folder / f"a.{suffix}", wave, 16000, subtype="PCM_16")
    data, files = build(tmp_path)
    data[0]
    random.seed(0)  # the number of reads depends on the place of the stretch
    counted = [reads(lambda: data[0]) for _ in range(5)]
    assert files <= min(counted) <= max(counted) <= files * most


@pytest.mark.skipif(not IO.exists(), reason="the system does not count the reads of a thread")
def test_each_read_is_counted(write):
    """Negative control: the test above would detect a file that is read twice."""
    file = write("a.wav")
    once = reads(file.read_bytes)
    assert once >= 1
    assert reads(lambda: [file.read_bytes(), file.read_bytes()]) == 2 * once
