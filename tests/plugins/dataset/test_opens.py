"""Each item opens each of its files only once, because opening takes longer than reading on a network drive."""

from __future__ import annotations

import soundfile

from audiozen.dataset import AudioFolder, DnsChallenge, NoisyCleanFolders, NoisySpeechMix
from audiozen_core.audio.files import audio_info, read_audio


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
