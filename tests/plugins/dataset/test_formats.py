"""One real recording in every format: what must not change does not, and what changes is within the tolerance.

The tolerance is the largest difference of a sample, for formats without loss, and the lowest signal-to-distortion ratio
for the others.
"""

from __future__ import annotations

import math
import random
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audiozen.dataset import AudioFolder, DnsChallenge, NoisyCleanFolders, NoisySpeechMix
from audiozen_core.audio.files import audio_info, read_audio
from audiozen_core.audio.writing import write_audio

SR = 16000
HALF_STEP_16 = 0.5 / 32768
LOSSLESS = {  # format, encoding, largest difference
    "wav_16": ("WAV", "PCM_16", 0.0), "wav_24": ("WAV", "PCM_24", 0.0), "wav_32": ("WAV", "PCM_32", 0.0),
    "wav_float": ("WAV", "FLOAT", 0.0), "wav_double": ("WAV", "DOUBLE", 0.0), "wavex_24": ("WAVEX", "PCM_24", 0.0),
    "rf64_16": ("RF64", "PCM_16", 0.0), "w64_16": ("W64", "PCM_16", 0.0), "flac_16": ("FLAC", "PCM_16", 0.0),
    "flac_24": ("FLAC", "PCM_24", 0.0), "aiff_16": ("AIFF", "PCM_16", 0.0), "aiff_24": ("AIFF", "PCM_24", 0.0),
    "aiff_float": ("AIFF", "FLOAT", 0.0), "au_16": ("AU", "PCM_16", 0.0), "caf_16": ("CAF", "PCM_16", 0.0),
    "caf_alac": ("CAF", "ALAC_16", 0.0), "nist_16": ("NIST", "PCM_16", 0.0), "wav_8": ("WAV", "PCM_U8", 1 / 128),
}  # fmt: skip
LOSSY = {"ogg": ("OGG", "VORBIS", 8.0), "mp3": ("MP3", "MPEG_LAYER_III", 8.0), "opus": ("OGG", "OPUS", 6.0)}
ENDINGS = {"WAVEX": "wav", "NIST": "sph"}
ALL = {**LOSSLESS, **LOSSY}


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    """Four seconds of speech from the corpus, whose samples have 16 bits, and with a peak near full scale."""
    corpus = Path(__file__).parents[3] / "recipes" / "mini_denoise" / "corpus" / "speech"
    waves = [soundfile.read(path, dtype="int16")[0] for path in sorted(corpus.rglob("*.flac"))[:12]]
    wave = np.concatenate(waves)[: 4 * SR].astype(np.int32)
    return (wave * (32000 // np.abs(wave).max())).astype(np.float32) / 32768


def write(path: Path, wave: np.ndarray, name: str) -> Path:
    kind, subtype, _ = ALL[name]
    ending = "opus" if name == "opus" else ENDINGS.get(kind, kind.lower())
    path = path.with_name(f"{path.name}.{ending}")
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, SR, format=kind, subtype=subtype)
    return path


def sdr(clip: np.ndarray, wave: np.ndarray) -> float:
    return float(10 * np.log10((clip @ clip) / max(float((wave - clip) @ (wave - clip)), 1e-20)))


def check(clip: np.ndarray, wave: torch.Tensor, name: str) -> None:
    assert wave.dtype == torch.float32
    assert len(wave) == len(clip)
    if name in LOSSLESS:
        assert np.abs(wave.numpy() - clip).max() <= LOSSLESS[name][2]
    else:
        assert sdr(clip.astype(np.float64), wave.double().numpy()) > LOSSY[name][2]


@pytest.mark.parametrize("name", ALL)
def test_samples_and_length_do_not_depend_on_the_format(tmp_path, clip, name):
    path = write(tmp_path / "a", clip, name)

    whole = read_audio(path, sr=SR)

    check(clip, whole, name)
    assert audio_info(path).frames == len(clip)
    assert torch.equal(read_audio(path, sr=SR, start=12345, num_frames=20000), whole[12345:32345])


@pytest.mark.parametrize("name", ALL)
def test_the_same_signal_on_both_channels_is_the_mono_signal(tmp_path, clip, name):
    mono = read_audio(write(tmp_path / "mono", clip, name), sr=SR)
    stereo = write(tmp_path / "stereo", np.stack([clip, clip], 1), name)

    check(clip, read_audio(stereo, sr=SR), name)
    if name in LOSSLESS:
        assert torch.equal(read_audio(stereo, sr=SR), mono)
    assert torch.equal(read_audio(stereo, sr=SR, channel=0), read_audio(stereo, sr=SR, channel=1)) or name in LOSSY


def test_16_bit_rounding_of_a_float_signal_is_at_most_half_a_step(tmp_path, clip):
    """Negative control: the tolerances above are not met by accident."""
    write_audio(tmp_path / "a.wav", torch.from_numpy(clip) * 0.7, SR)

    difference = np.abs(read_audio(tmp_path / "a.wav", sr=SR).numpy() - clip * np.float32(0.7)).max()

    assert 0 < difference <= HALF_STEP_16


@pytest.mark.parametrize("name", ALL)
def test_items_of_each_data_set_do_not_depend_on_the_format(tmp_path, clip, name):
    noise = np.random.default_rng(0).integers(-3000, 3000, len(clip)).astype(np.float32) / 32768
    noisy = clip * np.float32(0.5) + noise
    noisy = (np.round(noisy * 32768) / 32768).astype(np.float32)
    for folder, kind in (("reference", "wav_float"), ("format", name)):
        for key, wave in (("noisy", noisy), ("clean", clip), ("noise", noise)):
            write(tmp_path / folder / key / "fileid_1", wave, kind)

    def items(folder: Path) -> list[dict]:
        random.seed(5)
        sets = [
            AudioFolder(folder / "noisy"),
            NoisyCleanFolders(folder / "noisy", folder / "clean"),
            NoisyCleanFolders(folder / "noisy", folder / "clean", clip_seconds=1.3, check=False),
            DnsChallenge(folder),
            DnsChallenge(folder, clip_seconds=1.3),
            *(
                NoisySpeechMix(speech_dir=folder / "clean", noise_dir=folder / "noise", cache_mb=cache_mb, **more)
                for cache_mb in (0, 10)
                for more in ({"snrs": [3]}, {"clip_seconds": 1.3}, {"clip_seconds": 6.0})
            ),
        ]
        return [data[0] for data in sets]

    for expected, item in zip(items(tmp_path / "reference"), items(tmp_path / "format"), strict=True):
        assert item.keys() == expected.keys()
        assert (item["id"], item["sr"]) == (expected["id"], expected["sr"])
        for key in ("noisy", "clean"):
            if key in item:
                assert len(item[key]) == len(expected[key])
                if name in LOSSLESS and name != "wav_8":
                    assert torch.equal(item[key], expected[key])
                elif name == "wav_8":
                    assert (item[key] - expected[key]).abs().max() < 0.1
                else:
                    assert sdr(expected[key].double().numpy(), item[key].double().numpy()) > 0


@pytest.mark.parametrize("name", ALL)
def test_cached_mixtures_equal_those_from_files_in_each_format(tmp_path, clip, name):
    write(tmp_path / "speech" / "a", clip, name)
    write(tmp_path / "noise" / "b", clip[::-1], name)
    pair = [
        NoisySpeechMix(
            speech_dir=tmp_path / "speech", noise_dir=tmp_path / "noise", snr_range=[-5, 5], fixed=True,
            clip_seconds=0.7, items_per_epoch=5, cache_mb=cache_mb,
        )
        for cache_mb in (0, 10)
    ]  # fmt: skip

    for index in range(5):
        from_files, from_cache = (data[index] for data in pair)
        assert torch.equal(from_files["noisy"], from_cache["noisy"])
        assert torch.equal(from_files["clean"], from_cache["clean"])
        noise = (from_cache["noisy"] - from_cache["clean"]).double()
        snr = 10 * math.log10(from_cache["clean"].double().square().sum() / noise.square().sum())
        assert snr == pytest.approx(from_cache["snr"], abs=0.01)
