from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from structlog.testing import capture_logs

from audiozen_core.audio.files import audio_info, open_audio, read_audio
from audiozen_core.audio.listing import list_audio
from audiozen_core.audio.writing import write_audio
from audiozen_core.errors import DataError

SR = 16000


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, 4000).astype(np.float32)


@pytest.fixture
def wav(tmp_path: Path, noise: np.ndarray) -> Path:
    path = tmp_path / "a.wav"
    soundfile.write(path, noise, SR, subtype="FLOAT")
    return path


def message(error: pytest.ExceptionInfo[DataError]) -> str:
    return str(error.value)


@pytest.mark.parametrize(("suffix", "tolerance"), [("wav", 4e-5), ("flac", 4e-5), ("ogg", 0.1), ("mp3", 0.1)])
def test_each_common_format_is_read_completely_as_float32(tmp_path, suffix, tolerance):
    path = tmp_path / f"a.{suffix}"
    tone = 0.5 * np.sin(2 * np.pi * 440 / SR * np.arange(4000))
    soundfile.write(path, tone, SR)

    wave = read_audio(path, sr=SR)

    assert wave.dtype == torch.float32
    assert wave.shape == (4000,)
    assert np.abs(wave.numpy() - tone).max() < tolerance
    assert audio_info(path).sr == SR
    assert audio_info(path).frames == 4000


def test_reading_an_excerpt_gives_the_same_samples_as_the_whole_file(wav, noise):
    assert np.array_equal(read_audio(wav, sr=SR, start=100, num_frames=50), noise[100:150])
    assert np.array_equal(read_audio(wav, sr=SR, start=3990), noise[3990:])


def test_open_file_can_be_read_several_times_in_any_order(tmp_path, noise):
    soundfile.write(tmp_path / "a.flac", noise, SR, subtype="PCM_24")
    whole = read_audio(tmp_path / "a.flac", sr=SR)

    with open_audio(tmp_path / "a.flac", sr=SR) as audio:
        assert audio.info.frames == 4000
        for start, num_frames in ((3000, 1000), (0, 10), (5, 0), (10, None)):
            end = None if num_frames is None else start + num_frames
            assert torch.equal(audio.read(start, num_frames), whole[start:end])


@pytest.mark.parametrize("content", [b"This is not audio. " * 99, b"RIFF", b"fLaC", None])
def test_file_is_closed_after_reading_and_after_an_error(wav, content):
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    if content is not None:
        wav.write_bytes(content)
    with contextlib.suppress(DataError):
        read_audio(wav, sr=SR)
    with contextlib.suppress(DataError):
        read_audio(wav, sr=8000)

    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_audio_info_reads_frames_rate_channels_and_seconds(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros((8000, 2)), 8000)

    info = audio_info(tmp_path / "a.wav")

    assert (info.frames, info.sr, info.channels, info.seconds) == (8000, 8000, 2, 1.0)


def test_channels_are_averaged_unless_one_is_selected(tmp_path, noise):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([noise, -0.5 * noise], axis=1), SR, subtype="FLOAT")

    assert np.allclose(read_audio(path, sr=SR), 0.25 * noise, atol=1e-7)
    assert np.array_equal(read_audio(path, sr=SR, channel=1), -0.5 * noise)
    with pytest.raises(DataError, match=r"channel 2 of `.*a\.wav` is needed, but it has 2 channels"):
        read_audio(path, sr=SR, channel=2)


def test_channel_argument_does_not_matter_for_a_mono_file(wav, noise):
    assert np.array_equal(read_audio(wav, sr=SR, channel=1), noise)


def test_error_for_a_wrong_sample_rate_shows_both_rates_and_a_command(wav):
    with pytest.raises(DataError) as error:
        read_audio(wav, sr=48000)

    assert "16000 Hz" in message(error)
    assert "48000 Hz is needed" in message(error)
    assert "ffmpeg -i a.wav -ar 48000" in message(error)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"This is no audio. " * 99, "can't be read as audio"),
        (b"RIFF", "can't be read as audio"),
    ],
    ids=["empty", "text", "magic only"],
)
def test_error_names_a_file_that_is_not_audio(tmp_path, content, what):
    path = tmp_path / "odd.wav"
    path.write_bytes(content)

    for use in (audio_info, lambda file: read_audio(file, sr=SR)):
        with pytest.raises(DataError, match=what) as error:
            use(path)
        assert "odd.wav" in message(error)


def test_error_says_why_a_path_is_not_an_audio_file(tmp_path):
    with pytest.raises(DataError, match=r"the audio file `.*missing\.wav` does not exist"):
        read_audio(tmp_path / "missing.wav", sr=SR)
    with pytest.raises(DataError, match="is a folder"):
        read_audio(tmp_path, sr=SR)
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(DataError, match="is not a regular file"):
        read_audio(tmp_path / "pipe.wav", sr=SR)


def test_file_without_samples_is_an_error(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(0), SR)

    with pytest.raises(DataError, match="has no samples"):
        audio_info(tmp_path / "a.wav")


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_file_truncated_at_any_length_is_an_error(tmp_path, noise, suffix):
    whole = tmp_path / f"whole.{suffix}"
    soundfile.write(whole, noise, SR)
    content = whole.read_bytes()
    cut = tmp_path / f"cut.{suffix}"

    for length in range(1, len(content) - 1, 97):
        cut.write_bytes(content[:length])
        with pytest.raises(DataError, match=f"cut.{suffix}"):
            read_audio(cut, sr=SR)
    cut.write_bytes(content)
    assert len(read_audio(cut, sr=SR)) == 4000


def test_flac_that_was_cut_out_of_another_one_leads_to_encoding_it(tmp_path):
    """As `ffmpeg -ss 1 -c copy` does it: the header is that of the whole file, and the frames keep their numbers."""
    soundfile.write(tmp_path / "a.flac", np.random.default_rng(0).uniform(-0.5, 0.5, 40000), SR)
    content = (tmp_path / "a.flac").read_bytes()
    first = content.index(b"\xff\xf8")
    third = content.index(content[first : first + 4] + b"\x02")
    (tmp_path / "a.flac").write_bytes(content[:first] + content[third:])

    with pytest.raises(DataError, match=r"truncated or damaged: it can't be decoded \(") as error:
        read_audio(tmp_path / "a.flac", sr=SR)
    assert "`-c copy`), encode it: ffmpeg -i a.flac repaired/a.wav; otherwise download" in error.value.remedy


def test_streamed_wav_without_a_size_is_read_completely(tmp_path, wav):
    content = bytearray(wav.read_bytes())
    content[4:8] = b"\xff\xff\xff\xff"
    (tmp_path / "streamed.wav").write_bytes(content)

    assert len(read_audio(tmp_path / "streamed.wav", sr=SR)) == 4000


@pytest.mark.parametrize(("start", "frames"), [(3990, 11), (4001, None), (-1, 5), (0, -1)])
def test_reading_outside_the_file_is_an_error(wav, start, frames):
    with pytest.raises(DataError, match=r"samples -?\d+ to -?\d+ of `.*a\.wav` are needed, but it has 4000 samples"):
        read_audio(wav, sr=SR, start=start, num_frames=frames)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_error_gives_the_position_of_the_first_non_finite_sample(tmp_path, noise, value):
    noise[1600] = value
    soundfile.write(tmp_path / "a.wav", noise, SR, subtype="FLOAT")

    with pytest.raises(DataError, match=r"the first at 1600 \(0\.100 s\)"):
        read_audio(tmp_path / "a.wav", sr=SR, start=1000)
    assert len(read_audio(tmp_path / "a.wav", sr=SR, num_frames=1600)) == 1600


def test_every_16_bit_value_is_unchanged_after_writing_and_reading(tmp_path):
    wave = torch.arange(-32768, 32768) / 32768

    with capture_logs() as logs:
        assert write_audio(tmp_path / "new" / "a.wav", wave, SR) == 0
    assert not logs

    assert torch.equal(read_audio(tmp_path / "new" / "a.wav", sr=SR), wave)


def test_samples_beyond_full_scale_are_clipped_and_counted(tmp_path):
    with capture_logs() as logs:
        clipped = write_audio(tmp_path / "a.wav", torch.tensor([0.25, 1.0, 1.5, -2.0]), SR)

    assert clipped == 2
    assert [(log["log_level"], log["peak"]) for log in logs] == [("warning", 2.0)]
    assert f"2 of 4 samples of `{tmp_path / 'a.wav'}` are louder than full scale and were clipped" in logs[0]["event"]
    assert read_audio(tmp_path / "a.wav", sr=SR).tolist() == [0.25, 32767 / 32768, 32767 / 32768, -1.0]


def test_float_encoding_does_not_clip_samples(tmp_path):
    wave = torch.tensor([0.1, 1.5, -2.0], dtype=torch.float64, requires_grad=True)

    assert write_audio(tmp_path / "a.wav", wave, SR, encoding="float") == 0

    assert torch.equal(read_audio(tmp_path / "a.wav", sr=SR), wave.detach().float())


@pytest.mark.parametrize(
    ("wave", "name", "what"),
    [
        (torch.zeros(2, 100), "a.wav", r"shape \[2, 100\]"),
        (torch.tensor([0.0, torch.nan]), "a.wav", "NaN or infinite"),
        (torch.zeros(100), "a.flac", "must end in `.wav`"),
    ],
)
def test_invalid_wave_or_file_name_is_an_error_and_creates_no_file(tmp_path, wave, name, what):
    with pytest.raises(DataError, match=what):
        write_audio(tmp_path / name, wave, SR)

    assert list(tmp_path.iterdir()) == []


def test_failed_write_leaves_the_old_file_unchanged(tmp_path, wav, noise, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(DataError, match=r"a\.wav` can't be written: No space left"):
        write_audio(wav, torch.zeros(10), SR)

    assert np.array_equal(read_audio(wav, sr=SR), noise)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_permissions_of_a_written_file_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        write_audio(tmp_path / "a.wav", torch.zeros(10), SR)
    finally:
        os.umask(old)

    assert stat.S_IMODE((tmp_path / "a.wav").stat().st_mode) == 0o640


def test_list_audio_includes_subfolders_and_skips_hidden_files(tmp_path):
    for name in ("b.WAV", "a/z.flac", "a/.hidden.wav", ".git/x.wav", "notes.txt", "._b.wav"):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "linked.ogg").touch()
    (tmp_path / "data" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "a" / "loop").symlink_to(tmp_path / "data")

    found = [path.relative_to(tmp_path / "data").as_posix() for path in list_audio(tmp_path / "data")]

    assert found == ["a/z.flac", "b.WAV", "link/linked.ogg"]


def test_list_audio_follows_two_links_to_one_folder_and_no_cycle(tmp_path):
    """If each folder were listed only once, the file system would decide which of its two names is left out."""
    root = tmp_path / "data"
    for name in ("a/one.wav", "b/two.wav"):
        (root / name).parent.mkdir(parents=True)
        (root / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.wav").touch()
    for name, target in (("s1", tmp_path / "elsewhere"), ("s2", tmp_path / "elsewhere"), ("a/to_b", root / "b"),
                         ("b/to_a", root / "a"), ("a/self", root / "a"), ("b/up", root)):  # fmt: skip
        (root / name).symlink_to(target)

    found = [path.relative_to(root).as_posix() for path in list_audio(root)]

    assert found == ["a/one.wav", "a/to_b/two.wav", "b/to_a/one.wav", "b/two.wav", "s1/x.wav", "s2/x.wav"]
    assert [path.name for path in list_audio(str(root) + "/")] == [name.rpartition("/")[2] for name in found]


def test_audio_that_libsndfile_cannot_read_is_left_out_with_a_warning_that_counts_it(tmp_path):
    for name in ("a.wav", "b.M4A", "c/d.m4a", "e.webm", "notes.txt", ".f.m4a"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    with capture_logs() as logs:
        assert list_audio(tmp_path) == [tmp_path / "a.wav"]

    assert [log["log_level"] for log in logs] == ["warning", "info"]
    assert f"left out of `{tmp_path}`" in logs[0]["event"]
    assert "2 .m4a, 1 .webm, such as `b.M4A`; convert them: ffmpeg -i b.M4A converted/b.wav" in logs[0]["event"]
    (tmp_path / "a.wav").unlink()
    with pytest.raises(DataError, match="has no audio files that can be read") as error:
        list_audio(tmp_path)
    assert "2 .m4a, 1 .webm" in message(error)


def test_list_audio_can_leave_out_subfolders(tmp_path):
    for name in ("b.wav", "a/c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()

    assert list_audio(tmp_path, subfolders=False) == [tmp_path / "b.wav"]
    assert len(list_audio(tmp_path)) == 2


def test_listing_a_folder_without_audio_is_an_error(tmp_path):
    (tmp_path / "notes.txt").touch()

    with pytest.raises(DataError) as error:
        list_audio(tmp_path)
    assert f"the folder `{tmp_path}` has no audio files" in message(error)
    assert ".flac" in message(error)
    with pytest.raises(DataError, match=r"the folder `.*missing` does not exist"):
        list_audio(tmp_path / "missing")
    with pytest.raises(DataError, match="is not a folder"):
        list_audio(tmp_path / "notes.txt")


def test_float_file_of_the_same_wave_has_the_same_bytes(tmp_path):
    """Its header would have the time at which it was written."""
    write_audio(tmp_path / "a.wav", torch.tensor([0.1, -0.2]), SR, encoding="float")
    content = (tmp_path / "a.wav").read_bytes()
    stamp = content.index(b"PEAK") + 12
    assert content[stamp : stamp + 4] == bytes(4)
    assert content[stamp + 4 : stamp + 8] == np.float32(0.2).tobytes()
