"""A file is read to its end, or refused with a command that repairs it, whatever its header says."""

from __future__ import annotations

import io
import re
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiozen_core.audio.files import audio_info, open_audio, read_audio
from audiozen_core.errors import DataError

SR = 16000
FRAMES = 40001  # odd, so that chunks may need padding
PCM = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF")


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    """A quiet second, then loud noise, so that a variable bit rate varies."""
    generator = np.random.default_rng(0)
    loud = np.repeat([0.01, 0.5], [SR, FRAMES - SR])
    return (loud * generator.uniform(-1, 1, FRAMES)).astype(np.float32)


def encode(wave: np.ndarray, format: str, subtype: str | None = None, **options: object) -> bytes:
    memory = io.BytesIO()
    soundfile.write(memory, wave, SR, format=format, subtype=subtype, **options)
    return memory.getvalue()


def check(path: Path, expected: np.ndarray, tolerance: float = 0.0) -> None:
    """Checks that header, whole read and parts all agree with the expected samples."""
    whole = read_audio(path, sr=SR).numpy()
    assert audio_info(path).frames == len(whole) == len(expected)
    assert np.abs(whole - expected).max() <= tolerance
    end = len(whole)
    with open_audio(path) as audio:
        for start, count in ((end - 700, 700), (20011, 1000), (0, 5), (1, None), (end, 0)):
            assert np.array_equal(audio.read(start, count), whole[start : None if count is None else start + count])
    assert np.array_equal(read_audio(path, sr=SR, start=30011, num_frames=999), whole[30011:31010])


def with_size(content: bytes, format: str, size: int) -> bytes:
    """Replaces the size in the header, as a program writes it that streams to a pipe or that was killed."""
    file = bytearray(content)

    def put(position: int, form: str, *values: int) -> None:
        file[position : position + struct.calcsize(form)] = struct.pack(form, *values)

    data = content.find(b"data")
    if format in ("WAV", "WAVEX"):
        put(4, "<I", min(size + 36, 0xFFFFFFFF))
        put(data + 4, "<I", size)
    elif format == "RF64":
        put(content.index(b"ds64") + 8, "<QQQ", size + 36, size, 0)
    elif format == "W64":
        put(data + 16, "<Q", size)
    elif format == "AIFF":
        put(content.index(b"SSND") + 4, ">I", size)
        put(content.index(b"COMM") + 10, ">I", size // 2)
    elif format == "AU":
        put(8, ">I", size)
    else:
        put(data + 4, ">q", -1 if size == 0xFFFFFFFF else size)
    return bytes(file)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
@pytest.mark.parametrize("format", PCM)
@pytest.mark.parametrize("size", [0, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FFFF024, 0x80000000])
def test_file_of_unknown_size_is_read_to_its_end(tmp_path, wave, format, subtype, size):
    content = encode(wave, format, subtype)
    (tmp_path / "whole").write_bytes(content)
    (tmp_path / "streamed").write_bytes(with_size(content, format, size))

    check(tmp_path / "streamed", read_audio(tmp_path / "whole", sr=SR).numpy())
    # If it was cut off, nothing shows it.
    assert [audio_info(tmp_path / name).may_be_cut_off for name in ("whole", "streamed")] == [False, True]


@pytest.mark.parametrize("format", [*PCM, "NIST"])
def test_file_that_is_shorter_than_its_header_says_is_an_error(tmp_path, wave, format):
    path = tmp_path / "cut"
    for missing in (1, 2, 3000):
        path.write_bytes(encode(wave, format, "PCM_16").rstrip(b"\0")[:-missing])
        with pytest.raises(DataError, match=r"truncated or damaged: it has .* announces 80002"):
            audio_info(path)


@pytest.mark.parametrize("format", PCM)
def test_samples_that_the_header_does_not_count_are_an_error_with_a_command(tmp_path, wave, format):
    path = tmp_path / "a.wav"
    path.write_bytes(with_size(encode(wave, format, "PCM_16"), format, 50000))

    with pytest.raises(DataError, match=r"has a wrong header: it announces .* more bytes follow") as error:
        audio_info(path)
    assert "head -c" in error.value.remedy
    assert "ffmpeg -ignore_length 1 -i a.wav" in error.value.remedy


@pytest.mark.parametrize("format", [*PCM, "NIST", "FLAC", "OGG"])
@pytest.mark.parametrize("second", ["same", "longer"])
def test_command_for_joined_files_splits_them(tmp_path, wave, format, second):
    first = encode(wave, format)
    path = tmp_path / "a b.x"
    path.write_bytes(first + (first if second == "same" else encode(np.tile(wave, 2), format)))

    for use in (audio_info, lambda file: read_audio(file, sr=SR)):
        with pytest.raises(DataError, match="consists of several files, joined byte by byte") as error:
            use(path)
    subprocess.run(error.value.remedy.removeprefix("split it: "), shell=True, cwd=tmp_path, check=True)
    assert (tmp_path / "a b_1.x").read_bytes() == first
    (tmp_path / "first").write_bytes(first)
    check(tmp_path / "a b_1.x", read_audio(tmp_path / "first", sr=SR).numpy())
    assert audio_info(tmp_path / "a b_2.x").frames == FRAMES * (1 if second == "same" else 2)


@pytest.mark.parametrize(
    "after",
    [b"LIST\x04\0\0\0abcd", b"ID3\x04\0\0\0\0\0\x04abcd", b"TAG".ljust(128, b"\0"), bytes(512), b"x"],
    ids=["chunk", "ID3v2", "ID3v1", "padding", "one byte"],
)
@pytest.mark.parametrize("format", ["WAV", "AIFF", "FLAC", "MP3"])
def test_what_may_follow_the_samples_is_not_read_as_samples(tmp_path, wave, format, after):
    content = encode(wave[:-1], format)
    if format == "AIFF":
        after = after.replace(b"\x04\0\0\0", b"\0\0\0\x04")  # its numbers begin with the highest byte
    for name, bytes_ in (("plain", content), ("tagged", content + after)):
        (tmp_path / name).write_bytes(bytes_)

    check(tmp_path / "tagged", read_audio(tmp_path / "plain", sr=SR).numpy())


def test_float_wav_with_further_chunks_before_and_after_the_samples_is_read(tmp_path, wave):
    content = encode(wave, "WAV", "FLOAT")  # with the chunks `fact` and `PEAK`
    data = content.index(b"data")
    content = content[:data] + b"junk\x03\0\0\0abc\0" + content[data:] + b"LIST\x05\0\0\0abcde"
    (tmp_path / "a.wav").write_bytes(content)

    check(tmp_path / "a.wav", wave)


@pytest.mark.parametrize("before", [b"", b"ID3\x04\0\0\0\0\x01\x00" + bytes(128)], ids=["plain", "tag"])
@pytest.mark.parametrize("after", [b"", b"TAG".ljust(128, b"x")], ids=["plain", "tag"])
def test_flac_without_a_number_of_samples_is_read_to_its_end(tmp_path, wave, before, after):
    content = bytearray(encode(wave, "FLAC", "PCM_16"))
    (tmp_path / "whole.flac").write_bytes(content)
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "piped.flac").write_bytes(before + content + after)

    check(tmp_path / "piped.flac", read_audio(tmp_path / "whole.flac", sr=SR).numpy())


def test_flac_without_a_number_of_samples_that_was_cut_is_an_error_with_a_command(tmp_path, wave):
    content = bytearray(encode(wave, "FLAC", "PCM_16"))
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "piped.flac").write_bytes(content[:-50])

    with pytest.raises(DataError, match="does not say how many samples") as error:
        audio_info(tmp_path / "piped.flac")
    assert "ffmpeg -i piped.flac repaired/piped.wav" in error.value.remedy


def test_flac_with_more_samples_than_its_header_says_is_an_error(tmp_path, wave):
    content = bytearray(encode(wave, "FLAC", "PCM_16"))
    content[22:26] = (FRAMES - 5000).to_bytes(4, "big")
    (tmp_path / "a.flac").write_bytes(content)

    with pytest.raises(DataError, match=f"announces {FRAMES - 5000} samples, but the file has {FRAMES}"):
        audio_info(tmp_path / "a.flac")


def test_joined_flac_files_are_found_even_if_the_first_one_is_silent(tmp_path, wave):
    (tmp_path / "a.flac").write_bytes(encode(0 * wave, "FLAC") + encode(wave, "FLAC"))

    with pytest.raises(DataError, match="consists of several files"):
        read_audio(tmp_path / "a.flac", sr=SR)


# ----------------------------------------------------------------------------------------- MP3

DELAY = 1105  # the samples that encoder and decoder add at the start; the Xing header says so


@pytest.fixture(scope="module")
def mp3(wave) -> bytes:
    return encode(wave, "MP3", "MPEG_LAYER_III", bitrate_mode="VARIABLE", compression_level=0.3)


@pytest.fixture(scope="module")
def decoded(mp3) -> np.ndarray:
    with soundfile.SoundFile(io.BytesIO(mp3)) as file:
        return file.read(dtype="float32")


def without_xing(mp3: bytes) -> bytes:
    """Removes the first frame, which has no audio but the length. The next one begins with the same two bytes."""
    assert mp3[13:17] in (b"Xing", b"Info")
    return mp3[mp3.index(mp3[:2], 20) :]


@pytest.mark.parametrize("tags", [(b"", b""), (b"ID3\x04\0\0\0\0\x01\x00" + bytes(128), b"TAG".ljust(128, b"x"))])
def test_mp3_of_variable_bit_rate_without_a_length_is_read_to_its_end(tmp_path, mp3, decoded, tags):
    path = tmp_path / "a.mp3"
    path.write_bytes(tags[0] + without_xing(mp3) + tags[1])
    with soundfile.SoundFile(io.BytesIO(without_xing(mp3))) as file:
        assert file.frames != len(decoded)  # negative control: libsndfile's guess is wrong

    whole = read_audio(path, sr=SR).numpy()

    assert len(whole) % 576 == 0
    assert len(whole) >= DELAY + FRAMES
    check(path, whole)
    assert np.abs(whole[DELAY : DELAY + FRAMES] - decoded).max() < 1e-5


@pytest.mark.parametrize("turn", [1, -1], ids=["quiet first", "loud first"])
@pytest.mark.parametrize("mode", ["VARIABLE", "AVERAGE", "CONSTANT"])
def test_guessed_length_of_an_mp3_is_not_used(tmp_path, wave, turn, mode):
    content = without_xing(encode(wave[::turn], "MP3", bitrate_mode=mode))
    (tmp_path / "a.mp3").write_bytes(content)

    whole = read_audio(tmp_path / "a.mp3", sr=SR).numpy()

    assert FRAMES + DELAY <= len(whole) <= FRAMES + DELAY + 2 * 576
    check(tmp_path / "a.mp3", whole)


def test_joined_mp3_files_are_read_to_the_end_of_the_last(tmp_path, mp3, decoded):
    for name, content in (("a", mp3 + mp3), ("b", mp3 + b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + mp3)):
        path = tmp_path / f"{name}.mp3"
        path.write_bytes(content)
        whole = read_audio(path, sr=SR).numpy()

        assert 2 * FRAMES <= len(whole) <= 2 * FRAMES + 2 * DELAY + 4 * 576
        assert np.abs(whole[:FRAMES] - decoded).max() < 1e-5
        second = whole[FRAMES:]
        place = max(range(4000), key=lambda lag: second[lag : lag + 20000] @ decoded[:20000])
        assert np.abs(second[place + 2000 : place + FRAMES - 2000] - decoded[2000:-2000]).max() < 1e-5
        check(path, whole)


@pytest.mark.parametrize("tag", [b"", b"ID3\x04\0\0\0\0\x01\x00" + bytes(128)], ids=["plain", "tag"])
@pytest.mark.parametrize("other", ["sample rate", "channels"])
def test_mp3_whose_form_changes_is_an_error_with_the_command_that_splits_it(tmp_path, wave, mp3, decoded, other, tag):
    second = io.BytesIO()
    if other == "channels":
        soundfile.write(second, np.stack([wave, wave], 1), SR, format="MP3")
    else:
        soundfile.write(second, wave, 44100, format="MP3")
    (tmp_path / "a.mp3").write_bytes(mp3 + tag + second.getvalue())

    with pytest.raises(DataError, match="consists of several files") as error:
        audio_info(tmp_path / "a.mp3")
    subprocess.run(error.value.remedy.removeprefix("split it: "), shell=True, cwd=tmp_path, check=True)

    assert (tmp_path / "a_1.mp3").read_bytes() == mp3 + tag
    assert (tmp_path / "a_2.mp3").read_bytes() == second.getvalue()
    assert np.abs(read_audio(tmp_path / "a_1.mp3", sr=SR).numpy() - decoded).max() < 1e-6


def test_mp3_that_was_cut_is_an_error(tmp_path, mp3):
    for content in (mp3, without_xing(mp3)):
        (tmp_path / "cut.mp3").write_bytes(content[:-30])
        with pytest.raises(DataError, match="truncated or damaged"):
            audio_info(tmp_path / "cut.mp3")
    (tmp_path / "cut.mp3").write_bytes(mp3[: len(mp3) // 2])
    with pytest.raises(DataError, match=r"truncated or damaged: it has \d+ of \d+ frames"):
        audio_info(tmp_path / "cut.mp3")


# ----------------------------------------------------------------------------------------- Ogg


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_file_that_was_cut_or_lacks_a_page_or_has_a_wrong_byte_is_an_error(tmp_path, wave, subtype):
    content = encode(np.tile(wave, 3), "OGG", subtype)
    path = tmp_path / "a.ogg"
    path.write_bytes(content)
    check(path, read_audio(path, sr=SR).numpy())
    pages = [place for place in range(len(content)) if content.startswith(b"OggS", place)]
    assert len(pages) > 4

    path.write_bytes(content[:-20])
    with pytest.raises(DataError, match="is cut off"):
        audio_info(path)
    for place in (pages[3] + 100, pages[-1] + 50, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(DataError, match=r"its page at byte \d+ has changed"):
            audio_info(path)
    path.write_bytes(content[: pages[3]] + content[pages[4] :])
    with pytest.raises(DataError, match="pages are missing"):
        audio_info(path)


def test_ogg_file_that_ends_with_a_page_without_the_mark_of_the_end_is_read_and_known(tmp_path, wave):
    content = encode(wave, "OGG", "VORBIS")
    pages = [match.start() for match in re.finditer(b"OggS", content)]
    (tmp_path / "whole.ogg").write_bytes(content)
    (tmp_path / "cut.ogg").write_bytes(content[: pages[-1]])
    whole, cut = audio_info(tmp_path / "whole.ogg"), audio_info(tmp_path / "cut.ogg")
    assert (whole.may_be_cut_off, cut.may_be_cut_off) == (False, True)
    assert cut.frames < whole.frames == FRAMES


# ----------------------------------------------------------------------------------------- segments


FORMATS = [
    ("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "DOUBLE"), ("WAV", "ULAW"), ("WAV", "IMA_ADPCM"),
    ("WAV", "MS_ADPCM"), ("FLAC", "PCM_16"), ("FLAC", "PCM_24"), ("OGG", "VORBIS"), ("OGG", "OPUS"),
    ("MP3", "MPEG_LAYER_III"), ("AIFF", "PCM_16"), ("CAF", "ALAC_16"), ("CAF", "PCM_16"), ("NIST", "PCM_16"),
]  # fmt: skip


@pytest.mark.parametrize(("format", "subtype"), FORMATS)
def test_stretch_has_the_same_samples_as_the_whole_file_for_each_format(tmp_path, wave, format, subtype):
    (tmp_path / "a").write_bytes(encode(wave, format, subtype))
    with soundfile.SoundFile(tmp_path / "a") as file:
        whole = file.read(dtype="float32")  # one read of a new decoder, without a seek
    generator = np.random.default_rng(1)

    check(tmp_path / "a", whole)
    for start, count in generator.integers(0, FRAMES // 2, (15, 2)):
        assert np.array_equal(read_audio(tmp_path / "a", sr=SR, start=start, num_frames=count), whole[start:][:count])


def test_seek_of_the_decoder_would_not_be_exact(mp3, decoded):
    """Negative control of the test above."""
    with soundfile.SoundFile(io.BytesIO(mp3)) as file:
        errors = []
        for start in range(0, 36000, 1000):
            file.seek(start)
            errors.append(np.abs(file.read(2000, dtype="float32") - decoded[start : start + 2000]).max())
    assert max(errors) > 0.01


@pytest.fixture
def ffmpeg(tmp_path) -> Callable[[str], None]:
    """Runs ffmpeg in the folder of the test. Skips the test if it is not installed."""

    def run(arguments: str) -> None:
        try:
            subprocess.run(f"ffmpeg -y -v error {arguments}", shell=True, check=True, cwd=tmp_path)
        except subprocess.CalledProcessError:
            pytest.skip("ffmpeg is not installed, or lacks a codec")

    return run


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp3", "-f mp3 -c:a libmp3lame -q:a 4"),
        ("a.flac", "-f flac"), ("a.ogg", "-f ogg -c:a libvorbis"), ("a.opus", "-f ogg -c:a libopus"),
        ("a.wav", "-f wav"), ("a.aiff", "-f aiff"), ("a.au", "-f au"), ("a.caf", "-f caf"), ("a.w64", "-f w64"),
        ("a.rf64", "-f wav -rf64 always"),
    ],
)  # fmt: skip
def test_what_ffmpeg_streams_to_a_pipe_is_read_completely(tmp_path, wave, ffmpeg, name, options):
    soundfile.write(tmp_path / "s.wav", wave, SR, subtype="PCM_16")
    ffmpeg(f"-i s.wav {options} - | cat > {name}")
    whole = read_audio(tmp_path / name, sr=SR).numpy()

    check(tmp_path / name, whole)
    assert len(whole) >= FRAMES
    if name.endswith(("mp3", "ogg")):
        ffmpeg(f"-i {name} -c:a pcm_f32le decoded.wav")
        assert np.abs(whole - soundfile.read(tmp_path / "decoded.wav", dtype="float32")[0]).max() < 2e-5
    elif name != "a.opus":
        assert np.array_equal(whole, soundfile.read(tmp_path / "s.wav", dtype="float32")[0])
