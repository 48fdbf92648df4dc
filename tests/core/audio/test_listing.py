"""Every file of an audio folder is read, or the log says that it is left out."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from structlog.testing import capture_logs

from audiozen_core.audio.files import read_audio
from audiozen_core.audio.listing import _OTHER_SUFFIXES, list_audio
from audiozen_core.errors import DataError
from audiozen_core.storage.audio_suffixes import AUDIO_SUFFIXES
from tests.core.audio.test_rarer_formats import REFUSED

TONE = 0.3 * np.sin(np.arange(4000) * 0.1)
# The endings of each format that libsndfile recognises by its content, and an encoding that it writes.
FORMATS = {
    "AIFF": ("PCM_16", ".aif .aifc .aiff"),
    "AU": ("PCM_16", ".au .snd"),
    "AVR": ("PCM_16", ".avr"),
    "CAF": ("PCM_16", ".caf"),
    "FLAC": ("PCM_16", ".flac"),
    "HTK": ("PCM_16", ".htk"),
    "IRCAM": ("PCM_16", ".ircam .sf"),
    "MP3": ("MPEG_LAYER_III", ".mp1 .mp2 .mp3 .mpa .mpga .m2a"),
    "MPC2K": ("PCM_16", ".snd"),
    "NIST": ("PCM_16", ".nist .sph"),
    "OGG": ("VORBIS", ".oga .ogg .opus"),
    "PAF": ("PCM_16", ".paf .fap"),
    "PVF": ("PCM_16", ".pvf"),
    "RF64": ("PCM_16", ".rf64"),
    "SDS": ("PCM_16", ".sds"),
    "SVX": ("PCM_16", ".svx .8svx .iff"),
    "VOC": ("PCM_16", ".voc"),
    "W64": ("PCM_16", ".w64"),
    "WAV": ("PCM_16", ".wav .wave .bwf"),
    "WAVEX": ("PCM_16", ".wavex .amb"),
    "WVE": ("ALAW", ".wve"),
    "XI": ("DPCM_16", ".xi"),
}
# A file MAT holds matrices of any kind, and SD2 keeps its header in a second file.
NOT_READ = {"MAT4", "MAT5", "SD2", "RAW"}


def test_every_format_that_libsndfile_recognises_is_listed():
    assert set(soundfile.available_formats()) - NOT_READ <= set(FORMATS)
    endings = {ending for _, named in FORMATS.values() for ending in named.split()}
    assert endings == set(AUDIO_SUFFIXES)
    assert not endings & set(_OTHER_SUFFIXES)


@pytest.mark.parametrize("kind", FORMATS)
def test_file_of_each_format_is_listed_and_read_or_refused(tmp_path, kind):
    subtype, endings = FORMATS[kind]
    rate = {"WVE": 8000, "XI": 44100}.get(kind, 16000)  # the only rates that they have
    soundfile.write(tmp_path / "written", TONE, rate, format=kind, subtype=subtype)
    written = (tmp_path / "written").read_bytes()
    (tmp_path / "written").unlink()
    for ending in endings.split():
        (tmp_path / f"tone{ending.upper()}").write_bytes(written)
    found = list_audio(tmp_path)
    assert len(found) == len(endings.split())
    for path in found:
        if kind in REFUSED:
            with pytest.raises(DataError, match="does not show whether a file is complete"):
                read_audio(path, sr=rate)
        else:
            assert np.allclose(read_audio(path, sr=rate)[:4000], TONE, atol=0.02)


NAMES = (
    *("a.wav", "a.txt", "b.TXT", "a.json", "a.dat", "README", ".DS_Store", ".a.wav"),
    *("sub/c.m4r", "sub/d.QOA", "sub/e.aax", "sub/f.csv"),
)


@pytest.fixture
def folder(tmp_path):
    for name in NAMES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def test_every_file_that_is_left_out_is_counted_once_by_its_ending(folder):
    with capture_logs() as logs:
        assert list_audio(folder) == [folder / "a.wav"]
    warning, information = logs
    assert (warning["log_level"], information["log_level"]) == ("warning", "info")
    for counted in ("1 .m4r", "1 .qoa", "1 .aax"):
        assert counted in warning["event"]
    counted = information["event"].rpartition(": ")[2].split(", ")
    assert set(counted) == {"2 .txt", "1 .json", "1 .dat", "1 without an extension", "2 hidden", "1 .csv"}


def test_folder_without_other_files_says_nothing(tmp_path):
    (tmp_path / "a.wav").touch()
    (tmp_path / "enhanced.jsonl").touch()  # by `audiozen enhance`
    with capture_logs() as logs:
        list_audio(tmp_path)
    assert not logs


def test_many_endings_are_summed_up(tmp_path):
    for index in range(20):
        (tmp_path / f"a.x{index}").touch()
    (tmp_path / "a.wav").touch()
    with capture_logs() as logs:
        list_audio(tmp_path)
    assert logs[0]["event"].endswith(", 8 others")


def test_error_for_a_folder_without_audio_says_what_is_there(folder):
    for name in ("a.wav", "sub/c.m4r", "sub/d.QOA", "sub/e.aax"):
        (folder / name).unlink()
    with pytest.raises(DataError, match="has no audio files") as caught:
        list_audio(folder)
    assert "2 .txt" in caught.value.notes[0]
