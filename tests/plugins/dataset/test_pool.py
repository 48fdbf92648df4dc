"""The cache of the mixing data set returns the samples of the files, whatever their level and format."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiozen.dataset import NoisySpeechMix
from audiozen_core.audio.files import read_audio
from audiozen_core.data.unreadable_files import skip_unreadable_files
from audiozen_plugins.dataset.pool import Pool
from audiozen_plugins.dataset.recordings import Recording

SR = 16000
FORMATS = {
    "16.wav": "PCM_16", "24.wav": "PCM_24", "float.wav": "FLOAT", "16.flac": "PCM_16", "24.flac": "PCM_24",
    "a.ogg": None, "b.mp3": None, "8.wav": "PCM_U8", "stereo.wav": "PCM_16",
}  # fmt: skip


def sdr(reference, estimate):
    """The scale-invariant signal-to-distortion ratio, in dB."""
    target = (estimate @ reference) / (reference @ reference) * reference
    return 10 * math.log10((target @ target) / max(float((estimate - target) @ (estimate - target)), 1e-30))


@pytest.fixture
def recordings(tmp_path):
    generator = np.random.default_rng(0)
    found = []
    for length, (name, subtype) in enumerate(FORMATS.items(), start=8001):  # odd and even lengths
        wave = generator.uniform(-0.5, 0.5, (length, 2) if name == "stereo.wav" else length)
        soundfile.write(tmp_path / name, 3 * wave if name == "float.wav" else wave, SR, subtype=subtype)
        found.append(Recording(tmp_path / name, name))
    return found


def test_cache_returns_exactly_the_samples_of_the_files(recordings):
    cached, uncached = Pool(recordings, sr=SR, cache_mb=1), Pool(recordings, sr=SR, cache_mb=0)
    assert cached.cached
    assert not uncached.cached

    assert cached.lengths == uncached.lengths
    for index, recording in enumerate(recordings):
        whole = read_audio(recording.path, sr=SR).numpy()
        for pool in (cached, uncached):
            assert pool.read(index).dtype == np.float32
            assert np.array_equal(pool.read(index), whole)
            assert np.array_equal(pool.read(index, 77, 1000), whole[77:1077])
    assert abs(cached.read(2)).max() > 1.4  # the float file is louder than full scale


def test_changing_what_was_read_does_not_change_the_cache(recordings):
    pool = Pool(recordings, sr=SR, cache_mb=1)
    for index in range(len(recordings)):
        before = pool.read(index)
        pool.read(index)[:] = 0
        assert np.array_equal(pool.read(index), before)


def test_mono_file_of_16_bits_takes_two_bytes_a_sample_and_others_four(recordings):
    for recording in recordings:
        is_small = recording.name in ("16.wav", "16.flac", "8.wav")
        frames = len(read_audio(recording.path, sr=SR))
        for width in (2, 4):
            pool = Pool([recording], sr=SR, cache_mb=(frames * width + 3) / 1e6)
            assert pool.cached == (is_small or width == 4)
            assert np.array_equal(pool.read(0), read_audio(recording.path, sr=SR))


@pytest.mark.parametrize("cache_mb", [1024.0, 0.0])
@pytest.mark.parametrize("gain", [0.5, 3.0, 100.0])
def test_loud_speech_and_noise_are_never_clipped(tmp_path, cache_mb, gain):
    for kind in ("speech", "noise"):
        (tmp_path / kind).mkdir()
    time = np.arange(32000) / SR
    speech = np.sin(2 * np.pi * 200 * time) * (1 + np.sin(2 * np.pi * 3 * time)) / 2
    noise = np.random.default_rng(0).uniform(-1, 1, 32000)
    soundfile.write(tmp_path / "speech" / "a.wav", gain * speech, SR, subtype="FLOAT")
    soundfile.write(tmp_path / "noise" / "n.wav", gain * noise, SR, subtype="FLOAT")
    data = NoisySpeechMix(
        speech_dir=tmp_path / "speech", noise_dir=tmp_path / "noise", snrs=[5], level_range=[-3, -3], cache_mb=cache_mb
    )

    item = data[0]
    clean, mixed_noise = item["clean"].double().numpy(), (item["noisy"] - item["clean"]).double().numpy()

    assert sdr(speech, clean) > 120
    assert sdr(noise, mixed_noise) > 100
    assert item["noisy"].abs().max() <= 0.99 + 1e-6
    assert 10 * math.log10((clean @ clean) / (mixed_noise @ mixed_noise)) == pytest.approx(5, abs=1e-3)
    assert sdr(speech, np.clip(3 * speech, -1, 1)) < 10  # negative control: what a clipped cache would give


def test_mp3_that_exceeds_full_scale_is_not_clipped(tmp_path):
    square = np.sign(np.sin(2 * np.pi * 300 * np.arange(32000) / SR))
    soundfile.write(tmp_path / "a.mp3", 0.999 * square, SR)

    wave = Pool([Recording(tmp_path / "a.mp3", "a")], sr=SR, cache_mb=1).read(0)

    assert abs(wave).max() > 1.05
    assert torch.equal(torch.from_numpy(wave), read_audio(tmp_path / "a.mp3", sr=SR))


@pytest.mark.parametrize("cache_mb", [1.0, 3 * 8000 * 2 / 1e6])
def test_silent_file_that_was_skipped_is_not_in_the_pool_even_if_the_cache_overflows(tmp_path, cache_mb):
    """The last file needs four bytes a sample, which only the reading shows, so the small cache overflows at it."""
    waves = {"a": 0.1 * np.ones(8000), "silent": np.zeros(4000), "b": 0.1 * np.ones(7000), "c": np.full(5000, 0.123456)}
    for name, wave in waves.items():
        soundfile.write(tmp_path / f"{name}.wav", wave, SR, subtype="FLOAT" if name == "c" else "PCM_16")
    skipped = []
    with skip_unreadable_files(lambda error: skipped.append(error.message)):
        pool = Pool([Recording(tmp_path / f"{name}.wav", name) for name in waves], sr=SR, cache_mb=cache_mb)

    assert pool.cached == (cache_mb == 1)
    assert [Path(message.split("`")[1]).stem for message in skipped] == ["silent"]
    assert [recording.name for recording in pool.recordings] == ["a", "b", "c"]
    assert list(pool.lengths) == [8000, 7000, 5000]
    for index in range(3):
        assert np.array_equal(pool.read(index), read_audio(pool.recordings[index].path, sr=SR))
