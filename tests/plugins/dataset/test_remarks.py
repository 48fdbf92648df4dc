"""A data set says once which files have several channels, and which may be cut off."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import soundfile
import torch
from structlog.testing import capture_logs

from audiozen.dataset import AudioFolder, DnsChallenge, NoisyCleanFolders, NoisySpeechMix
from audiozen_core.audio.ogg_pages import _checksum


@pytest.fixture
def folders(write, tmp_path):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 16000)
    for kind in ("noisy", "clean", "speech", "noise"):
        for index in range(3):
            stereo = index == 1 and kind in ("noisy", "speech")
            name = f"{kind}/{'clean_' if kind == 'clean' else ''}fileid_{index}.wav"
            write(name, wave=np.stack([wave, 0.5 * wave], 1) if stereo else wave)
    (tmp_path / "clean2").symlink_to(tmp_path / "clean")
    return tmp_path


def warnings(logs):
    return [log["event"] for log in logs if "channels" in log["event"]]


def build(name, folders, **more):
    if name == "audio":
        return AudioFolder(folders / "noisy")
    if name == "mix":
        return NoisySpeechMix(speech_dir=folders / "speech", noise_dir=folders / "noise", snrs=[0], **more)
    if name == "dns":
        return DnsChallenge(folders)
    for index in range(3):
        (folders / "clean" / f"clean_fileid_{index}.wav").rename(folders / "clean" / f"fileid_{index}.wav")
    return NoisyCleanFolders(folders / "noisy", folders / "clean", **more)


@pytest.mark.parametrize(
    ("name", "more", "message"),
    [
        ("audio", {}, "1 of 3 files have several channels, which are averaged to one"),
        ("pairs", {}, "1 of 6 files have several channels, which are averaged to one"),
        ("mix", {}, "1 of 3 files have several channels, which are averaged to one"),
        ("mix", {"cache_mb": 0}, "1 of 3 files have several channels, which are averaged to one"),
        ("pairs", {"check": False}, "fileid_1.wav` has 2 channels, which are averaged to one"),
        ("dns", {}, "fileid_1.wav` has 2 channels, which are averaged to one"),
    ],
)
def test_averaged_channels_are_said_once(folders, name, more, message):
    with capture_logs() as logs:
        data = build(name, folders, **more)
        for _ in range(2):
            items = [data[index] for index in range(3)]

    assert len(warnings(logs)) == 1
    assert message in warnings(logs)[0]
    if name != "mix":
        assert torch.allclose(items[1]["noisy"], 0.75 * items[0]["noisy"], atol=1e-4)


def test_mono_files_cause_no_warning(folders):
    (folders / "noisy" / "fileid_1.wav").unlink()
    with capture_logs() as logs:
        AudioFolder(folders / "noisy")

    assert not warnings(logs)


def test_left_out_files_are_said_for_each_data_set(folders):
    for kind in ("noisy", "speech"):
        (folders / kind / "x.m4a").touch()
    for name in ("audio", "mix", "dns", "pairs"):
        with capture_logs() as logs:
            build(name, folders)
        assert [log["event"] for log in logs if "left out" in log["event"] and "1 .m4a" in log["event"]]


@pytest.mark.parametrize("name", ["audio", "mix", "pairs", "dns"])
def test_files_without_the_mark_of_their_end_are_said_once(folders, name):
    wave = np.random.default_rng(0).uniform(-0.5, 0.5, 16000)
    for path in [folders / kind / "fileid_0.wav" for kind in ("noisy", "speech")]:
        soundfile.write(path, wave, 16000, format="OGG", subtype="VORBIS")
        path.write_bytes(without_the_mark(path.read_bytes()))
    with capture_logs() as logs:
        data = build(name, folders)
        for _ in range(2):
            data[0]
    said = [log["event"] for log in logs if "Ogg" in log["event"]]
    assert len(said) == 1
    assert "lack" in said[0]


def without_the_mark(content: bytes) -> bytes:
    """Removes the mark of the end from the last page, so that the length stays."""
    last = content.rindex(b"OggS")
    page = bytearray(content[last:])
    page[5] &= ~4
    page[22:26] = bytes(4)
    page[22:26] = struct.pack("<I", _checksum(bytes(page)))
    return content[:last] + bytes(page)
