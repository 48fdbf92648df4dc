"""Samples of plain WAV files are the same as those that libsndfile decodes, and all other files go to libsndfile."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiozen_core.audio import files as files_module
from audiozen_core.audio import plain_wav
from audiozen_core.audio.files import audio_info, open_audio, read_audio
from audiozen_core.errors import DataError

SR = 16000


@pytest.fixture
def decoders(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Records each opening of a decoder of libsndfile."""
    opened: list[str] = []

    class Counted(soundfile.SoundFile):
        def __init__(self, *args, **options):
            opened.append("libsndfile")
            super().__init__(*args, **options)

    monkeypatch.setattr(files_module.soundfile, "SoundFile", Counted)
    return opened


def waves(channels: int) -> np.ndarray:
    """Samples from full scale to full scale, both ends included."""
    wave = np.random.default_rng(channels).uniform(-1, 1, (1000, channels)).astype(np.float32)
    wave[0], wave[1], wave[2] = -1, 32767 / 32768, 0
    return wave


def by_libsndfile(path: Path) -> np.ndarray:
    samples, _ = soundfile.read(path, dtype="float32", always_2d=True)
    return samples


@pytest.mark.parametrize("subtype", ["PCM_16", "FLOAT"])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_samples_are_those_of_libsndfile_to_the_last_bit(tmp_path, decoders, subtype, channels):
    path = tmp_path / "a.wav"
    soundfile.write(path, waves(channels), SR, subtype=subtype)
    expected = by_libsndfile(path)
    decoders.clear()

    with open_audio(path) as audio:
        assert (audio.info.frames, audio.info.sr, audio.info.channels) == (1000, SR, channels)
        assert audio.subtype == subtype
        for channel in range(channels):
            for start, count in ((0, None), (990, 10), (3, 5), (1000, 0), (0, 1000)):
                read = audio.read(start, count, channel=channel).numpy()
                assert np.array_equal(read, expected[start : None if count is None else start + count, channel])
        blocks = [block.numpy() for block in audio.blocks(300)]
    assert np.array_equal(np.concatenate(blocks, axis=1).T, expected)
    assert decoders == []


@pytest.mark.parametrize("block", [1, 7, 500, 999, 1000])
def test_integers_are_read_in_blocks(tmp_path, monkeypatch, block):
    path = tmp_path / "a.wav"
    soundfile.write(path, waves(2), SR, subtype="PCM_16")
    monkeypatch.setattr(plain_wav, "_BLOCK", block)
    with open_audio(path) as audio:
        assert np.array_equal(audio.read(3, 990, channel=1).numpy(), by_libsndfile(path)[3:993, 1])
        path.write_bytes(path.read_bytes()[:2001])
        with pytest.raises(DataError, match="it ends after 489 of 1000 samples"):
            audio.read(channel=1)


def test_a_wrong_factor_would_be_found(tmp_path, monkeypatch):
    """Negative control: the largest number of 16 bits is 32767, so that number is a factor that looks right."""
    path = tmp_path / "a.wav"
    soundfile.write(path, waves(1), SR, subtype="PCM_16")
    monkeypatch.setattr(plain_wav, "_FULL_SCALE", np.float32(1 / 32767))

    assert not np.array_equal(read_audio(path, sr=SR).numpy(), by_libsndfile(path)[:, 0])


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "DOUBLE", "ULAW", "IMA_ADPCM"])
def test_other_encodings_are_decoded_by_libsndfile(tmp_path, decoders, subtype):
    path = tmp_path / "a.wav"
    soundfile.write(path, waves(1), SR, subtype=subtype)
    expected = by_libsndfile(path)[:, 0]
    decoders.clear()

    assert np.array_equal(read_audio(path, sr=SR).numpy()[:1000], expected[:1000])
    assert decoders


def plain(fmt: bytes, samples: bytes, *, before: bytes = b"", after: bytes = b"", form: bytes = b"WAVE") -> bytes:
    body = form + fmt + before + b"data" + struct.pack("<I", len(samples)) + samples + after
    return b"RIFF" + struct.pack("<I", len(body)) + body


FMT = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, SR, 2 * SR, 2, 16)
SAMPLES = np.arange(-300, 300, dtype="<i2").tobytes()
CHUNK = b"junk" + struct.pack("<I", 6) + b"abcdef"


@pytest.mark.parametrize(
    ("content", "is_plain"),
    [
        (plain(FMT, SAMPLES), True),
        (plain(FMT, SAMPLES, before=CHUNK), True),
        (plain(CHUNK + FMT, SAMPLES), True),
        (plain(FMT, SAMPLES, after=CHUNK), True),
        (plain(b"fmt " + struct.pack("<IHHIIHHH", 18, 1, 1, SR, 2 * SR, 2, 16, 0), SAMPLES), True),
        (plain(FMT, SAMPLES + b"\1"), True),  # half a sample at the end
        # 12 bits in the upper part of two bytes
        (plain(b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, SR, 2 * SR, 2, 12), SAMPLES), False),
        (plain(b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, SR, 4 * SR, 4, 16), SAMPLES), False),
        (plain(FMT + FMT, SAMPLES), False),
        (plain(b"fmt " + struct.pack("<IHHIIHH", 16, 6, 1, SR, SR, 1, 8), SAMPLES), False),
    ],
    ids=["plain", "chunk between", "chunk first", "chunk last", "longer", "odd", "12 bits", "block", "twice", "A-law"],
)
def test_headers_are_understood_as_by_libsndfile_or_left_to_it(tmp_path, decoders, content, is_plain):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    try:
        expected = by_libsndfile(path)[:, 0]
    except soundfile.LibsndfileError:
        expected = None
    decoders.clear()

    if expected is None:
        with pytest.raises(DataError):
            audio_info(path)
    else:
        assert np.array_equal(read_audio(path, sr=SR).numpy(), expected)
    assert (decoders == []) == is_plain


def test_a_file_that_becomes_shorter_after_it_was_opened_is_an_error(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, waves(1), SR, subtype="PCM_16")
    with open_audio(path) as audio:
        path.write_bytes(path.read_bytes()[:1001])
        with pytest.raises(DataError, match="it ends after 478 of 1000 samples"):
            audio.read()
