"""Audio files are written in pieces, in several formats, and appear completely or not at all."""

import errno
import io
import os

import numpy as np
import pytest
import soundfile
import torch

from audiozen_core.audio import plain_wav
from audiozen_core.audio.files import open_audio
from audiozen_core.audio.plain_wav import PlainWavWriter
from audiozen_core.audio.writing import encode_pieces, write_audio, write_pieces
from audiozen_core.errors import DataError

SR = 16000
WAVE = 0.3 * torch.randn(2, 50000, generator=torch.Generator().manual_seed(0))
# The largest error of a sample, for each encoding.
ENCODINGS = [
    ("WAV", "PCM_U8", 0.5 / 2**7),
    ("AIFF", "PCM_S8", 0.5 / 2**7),
    ("WAV", "PCM_16", 0.5 / 2**15),
    ("FLAC", "PCM_24", 0.5 / 2**23 + 1e-9),
    ("AIFF", "PCM_32", 1e-7),
    ("WAV", "FLOAT", 0.0),
    ("CAF", "DOUBLE", 0.0),
    ("OGG", "VORBIS", 2.0),
]


@pytest.mark.parametrize(("form", "subtype", "most"), ENCODINGS)
def test_pieces_are_read_back(tmp_path, form, subtype, most):
    path = tmp_path / "new" / "a"
    wave = WAVE.clamp(-0.9, 0.9)
    with write_pieces(path, SR, channels=2, form=form, subtype=subtype) as writer:
        for piece in wave.split(7777, dim=-1):
            writer.write(piece)
    found = soundfile.read(path, dtype="float64")[0].T
    assert found.shape == (2, 50000)
    assert np.abs(found - wave.double().numpy()).max() <= most
    assert (writer.frames, writer.clipped) == (50000, 0)


def test_pieces_and_one_piece_are_the_same_file_and_twice_the_same(tmp_path):
    for name, size in (("a", 50000), ("b", 333), ("c", 333)):
        with write_pieces(tmp_path / name, SR, channels=2, subtype="FLOAT") as writer:
            for piece in WAVE.split(size, dim=-1):
                writer.write(piece)
    contents = {(tmp_path / name).read_bytes() for name in "abc"}
    assert len(contents) == 1
    assert b"PEAK" + bytes([16 + 8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]) in contents.pop()


@pytest.mark.parametrize(
    ("subtype", "scale"), [("PCM_U8", 2**7), ("PCM_16", 2**15), ("PCM_24", 2**23), ("PCM_32", 2**31)]
)
def test_loud_samples_are_clipped_and_counted_in_all_channels(tmp_path, subtype, scale):
    wave = torch.tensor([[0.5, 1.5, -1.0], [-2.0, 0.25, 1.0]])
    with write_pieces(tmp_path / "a.wav", SR, channels=2, subtype=subtype) as writer:
        writer.write(wave)
    assert (writer.clipped, writer.peak) == (2, 2.0)
    found = soundfile.read(tmp_path / "a.wav", dtype="float64")[0].T
    largest = 1 - 1 / scale
    np.testing.assert_allclose(found, [[0.5, largest, -1.0], [-1.0, 0.25, largest]], rtol=0, atol=1e-12)


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32"])
@pytest.mark.parametrize("loudest", [1e-3, 0.999, 1.0, 1.5, 1e38])
def test_integers_are_rounded_as_in_float64(tmp_path, subtype, loudest):
    wave = torch.rand(3, 4000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    wave[0, :4] = torch.tensor([1.0, -1.0, 0.5 / 2**15, 1.5 / 2**15])
    wave *= loudest
    form = "AIFF" if subtype == "PCM_S8" else "WAV"
    with encode_pieces("a", SR, channels=3, form=form, subtype=subtype) as writer:
        writer.write(wave)
    bits = int(subtype.removeprefix("PCM_").lstrip("SU"))
    width = 16 if bits <= 16 else 32
    whole = np.round(wave.double().numpy() * 2 ** (bits - 1))
    samples = whole.clip(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * 2 ** (width - bits)
    expected = io.BytesIO()
    soundfile.write(expected, samples.astype(f"int{width}").T, SR, format=form, subtype=subtype)
    assert writer.content == expected.getvalue()
    assert writer.clipped == int((np.abs(whole) > 2 ** (bits - 1)).sum())
    assert (writer.clipped > 0) == (loudest > 1)


@pytest.mark.parametrize(("channels", "sr"), [(1, 1), (1, 16000), (2, 44100), (3, 8000), (64, 999_999)])
@pytest.mark.parametrize("frames", [0, 5000, 7000])
def test_plain_wav_file_has_the_bytes_of_libsndfile(tmp_path, monkeypatch, channels, sr, frames):
    wave = 0.3 * torch.randn(channels, 5000, generator=torch.Generator().manual_seed(0))
    samples = (wave.double() * 2**15).round().clamp(-(2**15), 2**15 - 1).short().numpy().T
    soundfile.write(tmp_path / "b.wav", samples, sr, subtype="PCM_16")
    expected = (tmp_path / "b.wav").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(soundfile, "SoundFile", None)  # libsndfile is not used
        with write_pieces(tmp_path / "a.wav", sr, channels=channels, frames=frames) as writer:
            for piece in wave.split(777, dim=-1):
                writer.write(piece)
        with encode_pieces("a.wav", sr, channels=channels, frames=frames) as encoder:
            encoder.write(wave)
        with pytest.raises(TypeError), encode_pieces("a.wav", sr, subtype="FLOAT"):
            pass
    assert (tmp_path / "a.wav").read_bytes() == expected
    assert encoder.content == expected


@pytest.mark.parametrize(("form", "subtype"), [("WAV", "PCM_16"), ("WAV", "PCM_24"), ("FLAC", "PCM_16")])
@pytest.mark.parametrize(
    ("channels", "shape"), [(1, (2, 100)), (2, (101,)), (2, (1, 100)), (2, (3, 100)), (1, (1, 1, 100)), (2, (1, 0))]
)
def test_wave_with_another_number_of_channels_is_an_error(tmp_path, form, subtype, channels, shape):
    for open_writer in (write_pieces, encode_pieces):
        with (
            pytest.raises(DataError, match=rf"has the shape \[{shape[0]}.*\], but the file has {channels} channel"),
            open_writer(tmp_path / "a", SR, channels=channels, form=form, subtype=subtype) as writer,
        ):
            writer.write(torch.zeros(shape))
    assert list(tmp_path.iterdir()) == []


def test_wav_file_without_samples_and_one_that_is_too_large(tmp_path):
    with write_pieces(tmp_path / "a.wav", SR):
        pass
    assert soundfile.info(tmp_path / "a.wav").frames == 0
    with pytest.raises(OSError, match="File too large"):
        PlainWavWriter(io.BytesIO(), SR, 1, 2**31)


def test_wav_file_that_becomes_too_large_is_an_error_before_the_samples_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(plain_wav, "_MOST_SAMPLE_BYTES", 200)
    sink = io.BytesIO()
    writer = PlainWavWriter(sink, SR, 1, 0)
    writer.write(np.zeros(100, np.int16))
    with pytest.raises(OSError, match="File too large"):
        writer.write(np.zeros(1, np.int16))
    assert len(sink.getvalue()) == 244
    with (
        pytest.raises(DataError, match="can't be written: File too large"),
        write_pieces(tmp_path / "a.wav", SR) as opened,
    ):
        opened.write(torch.zeros(101))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("form", "subtype"), [("FLAC", "PCM_16"), ("WAV", "FLOAT"), ("AIFF", "PCM_24"), ("CAF", "FLOAT")]
)
def test_file_that_is_encoded_in_memory_is_the_file_that_is_written(tmp_path, form, subtype):
    options = {"channels": 2, "form": form, "subtype": subtype}
    with write_pieces(tmp_path / "a", SR, **options) as writer, encode_pieces("a", SR, **options) as encoder:
        for one in (writer, encoder):
            one.write(WAVE)
    assert encoder.content == (tmp_path / "a").read_bytes()


def test_error_in_the_block_leaves_nothing(tmp_path):
    def write():
        with write_pieces(tmp_path / "a.wav", SR) as writer:
            writer.write(torch.zeros(1000))
            raise KeyError("later")

    with pytest.raises(KeyError):
        write()
    assert list(tmp_path.iterdir()) == []


def test_disk_that_is_full_half_way_leaves_the_old_file(tmp_path, monkeypatch):
    write_audio(tmp_path / "a.flac.wav", torch.ones(10), SR)
    before = (tmp_path / "a.flac.wav").read_bytes()
    real, left = os.write, [100_000]

    def write(descriptor, data):
        left[0] -= len(data)
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)

    def write_all():
        with write_pieces(tmp_path / "a.flac.wav", SR) as writer:
            for piece in 0.3 * torch.randn(100, 10_000):
                writer.write(piece)

    with pytest.raises(DataError, match="can't be written: No space left"):
        write_all()
    assert left[0] < 0
    assert (tmp_path / "a.flac.wav").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.flac.wav"]


def test_format_that_can_not_have_the_channels_is_an_error(tmp_path):
    with (
        pytest.raises(DataError, match="with 9 channels of 16000 Hz as FLAC PCM_16"),
        write_pieces(tmp_path / "a.flac", SR, channels=9, form="FLAC"),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("sr", "channels"), [(384_000, 1), (SR, 256)])
def test_vorbis_beyond_its_limits_is_an_error_and_does_not_end_the_process(tmp_path, sr, channels):
    options = {"channels": channels, "form": "OGG", "subtype": "VORBIS"}
    with (
        pytest.raises(DataError, match=rf"with {channels} channels of {sr} Hz as OGG VORBIS: Vorbis has at most"),
        write_pieces(tmp_path / "a.ogg", sr, **options),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_wav_file_of_more_than_4_gib_is_written_as_rf64(tmp_path):
    with write_pieces(tmp_path / "a.wav", SR, channels=1, frames=2**31) as writer:
        writer.write(torch.zeros(100))
    assert (tmp_path / "a.wav").read_bytes()[:4] == b"RF64"


FORMS = [("WAV", "PCM_16"), ("WAV", "MS_ADPCM"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("MP3", "MPEG_LAYER_III")]


@pytest.mark.parametrize(("form", "subtype"), FORMS)
def test_blocks_are_all_samples_of_all_channels(tmp_path, form, subtype):
    soundfile.write(tmp_path / "a", WAVE.T.numpy(), SR, format=form, subtype=subtype)
    with open_audio(tmp_path / "a") as audio:
        whole = torch.stack([audio.read(channel=channel) for channel in (0, 1)])
        blocks = list(audio.blocks(777))
        assert torch.equal(torch.cat(blocks, dim=-1), whole)
        assert {block.shape[-1] for block in blocks[:-1]} == {777}
        assert torch.equal(torch.cat(list(audio.blocks(60000)), dim=-1), whole)
        assert torch.equal(audio.read(start=100, num_frames=50, channel=1), whole[1, 100:150])


def test_nan_in_a_later_block_is_an_error_with_its_place(tmp_path):
    wave = WAVE.clone()
    wave[1, 30_000] = torch.nan
    soundfile.write(tmp_path / "a.wav", wave.T.numpy(), SR, subtype="FLOAT")
    with open_audio(tmp_path / "a.wav") as audio, pytest.raises(DataError, match=r"first at 30000 \(1\.875 s\)"):
        list(audio.blocks(4096))
