"""A trained network enhances arrays and files: shapes, kinds of numbers, rates, channels, lengths, faulty input."""

import math
import shutil

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.errors import DataError, RunError
from audiozen_core.inference.enhancer import Enhancer, ModelSource
from audiozen_core.trainer.components import Components
from audiozen_plugins.trainer.enhancement import EnhancementTrainer
from audiozen_plugins.trainer.flow import FlowTrainer
from audiozen_plugins.trainer.separation import SeparationTrainer
from tests.tiny_training import make_trainer

SR = 16000
ACOUSTICS = Acoustics(n_fft=256, win_length=256, hop_length=128)


class Half(nn.Module):
    """Halves waveforms."""

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.5))
        self.shapes = []

    def forward(self, x):
        self.shapes.append(list(x.shape))
        return self.gain * x


class Halves(Half):
    """Gives two signals."""

    def forward(self, x):
        return torch.stack([x, -self.gain * x], dim=1)


class Squash(Half):
    domain = "magnitude"

    def forward(self, x):
        return x * torch.sigmoid(x - self.gain)


def enhancer(network=None, trainer=EnhancementTrainer, *, domain="waveform", **args):
    network = network or Half()
    components = Components({"": network}, acoustics=ACOUSTICS, only_enhances=True)
    domain = {} if trainer is FlowTrainer else {"domain": domain}
    return Enhancer(trainer(components, **domain, **args), ModelSource("test", path=None))


def noise(*shape, seed=0):
    return 0.1 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(1000,), (1, 1000), (3, 1000), (1,), (2, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensor_keeps_its_shape_and_type(shape, dtype):
    given = noise(*shape).to(dtype)
    kept = given.clone()
    found = enhancer().enhance(given, SR)
    assert (found.shape, found.dtype) == (given.shape, dtype)
    torch.testing.assert_close(found.float(), 0.5 * given.float(), atol=1e-3 if dtype.itemsize == 2 else 1e-7, rtol=0)
    assert torch.equal(given, kept)


@pytest.mark.parametrize("shape", [(1000,), (2, 1000)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16", "int32", "uint8"])
def test_array_keeps_its_shape_and_type_and_whole_numbers_their_scale(shape, dtype):
    generator = np.random.default_rng(0)
    given = generator.normal(size=shape) * 0.1
    if dtype == "uint8":
        given = 128 + np.round(given * 128)
    elif dtype.startswith("int"):
        given = np.round(given * 2 ** (int(dtype[3:]) - 1))
    given = given.astype(dtype)
    found = enhancer().enhance(given, SR)
    assert isinstance(found, np.ndarray)
    assert (found.shape, found.dtype) == (given.shape, given.dtype)
    zero, step = (128, 1) if dtype == "uint8" else (0, 1 if dtype == "int16" else 64 if dtype == "int32" else 1e-7)
    assert np.abs((found.astype("float64") - zero) - 0.5 * (given.astype("float64") - zero)).max() <= step


def test_whole_numbers_that_become_louder_than_full_scale_are_clipped():
    model = enhancer()
    with torch.no_grad():
        model.network.gain.fill_(3.0)
    assert model.enhance(np.array([20000, -20000, 5], "int16"), SR).tolist() == [32767, -32768, 15]


def test_read_only_views_and_turned_arrays_are_read_as_they_are():
    given = np.arange(20, dtype="float32").reshape(10, 2).T[:, ::-1] / 100
    given.flags.writeable = False
    np.testing.assert_allclose(enhancer().enhance(given, SR), given / 2, atol=1e-7)


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">i2", ">i4", "longdouble"])
def test_arrays_of_another_byte_order_or_width_keep_their_kind(dtype):
    values = np.array([0, 2000, -4000, 8000])
    given = values.astype(dtype) if ">i" in dtype else (values / 32768).astype(dtype)
    found = enhancer().enhance(given, SR)
    assert found.dtype == given.dtype
    np.testing.assert_allclose(found.astype(float), values / 2 / (1 if ">i" in dtype else 32768), atol=1e-7)


@pytest.mark.parametrize("sr", [0, -16000, 44100.0, "16000", None, True])
def test_rate_that_is_no_whole_number_of_hertz_is_an_error(sr):
    with pytest.raises(DataError, match=r"the sample rate is .*whole number of hertz"):
        enhancer().enhance(np.zeros(100), sr)


@pytest.mark.parametrize("sr", [1, 16, 48])
def test_rate_in_kilohertz_is_an_error(sr):
    with pytest.raises(DataError, match="rates below 1000 Hz are not resampled"):
        enhancer().enhance(np.zeros(100), sr)


def test_rate_may_be_a_number_of_numpy():
    assert enhancer().enhance(np.zeros(100), np.int64(8000)).shape == (100,)


@pytest.mark.parametrize(
    ("audio", "what"),
    [
        (np.zeros(0), "is empty"),
        (torch.zeros(2, 0), "is empty"),
        (np.zeros((48000, 2)), "would have 48000 channels"),
        (np.zeros((1, 2, 100)), r"has the shape \[1, 2, 100\]"),
        (np.array(1.0), "has the shape"),
        ([0.0, 0.1], "is list"),
        (np.array([0.0, np.nan]), "NaN or infinite"),
        (np.array([0.0, np.inf], "float16"), "NaN or infinite"),
        (np.arange(100), "the audio has the dtype int64"),
        (np.zeros(10, "complex64"), "has the dtype complex64"),
        (np.zeros(10, ">c8"), "has the dtype >c8|has the dtype complex64"),
        (np.array([0.0, None]), "has the dtype object"),
        (np.array(["0.1"]), "has the dtype <U3"),
        (np.ones(10, bool), "has the dtype bool"),
        (np.arange(1000, dtype="float32"), "peak of 999, but full scale is 1"),
    ],
)
def test_audio_that_can_not_be_meant_is_an_error(audio, what):
    with pytest.raises(DataError, match=what):
        enhancer().enhance(audio, SR)


def test_each_channel_is_enhanced_by_itself_and_mix_enhances_the_average():
    model, given = enhancer(Squash(), domain="magnitude"), noise(3, 4000)
    found = model.enhance(given, SR)
    for channel in range(3):
        torch.testing.assert_close(found[channel], model.enhance(given[channel], SR), atol=1e-6, rtol=0)
    mixed = model.enhance(given, SR, mix=True)
    assert mixed.shape == (1, 4000)
    torch.testing.assert_close(mixed[0], model.enhance(given.mean(0), SR), atol=1e-6, rtol=0)
    assert (mixed[0] - found.mean(0)).abs().max() > 1e-3


@pytest.mark.parametrize("sr", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("length", [1, 100, 30011])
def test_other_rates_are_resampled_without_delay_to_the_same_length(sr, length):
    times = torch.arange(length, dtype=torch.float64) / sr
    given = (0.3 * torch.sin(2 * math.pi * 440 * times) + 0.2 * torch.sin(2 * math.pi * 3000 * times)).float()
    model = enhancer()
    found = model.enhance(given, sr)
    assert found.shape == given.shape
    # The ends of a sine have all frequencies, which the rate of the network lacks.
    middle = slice(length // 4, 3 * length // 4) if length > 1000 else slice(0, 0)
    assert (found - 0.5 * given)[middle].abs().sum() <= 1e-4 * (middle.stop - middle.start)
    assert model.network.shapes[0][1] == max(256, math.ceil(length * SR / sr))


def test_what_the_rate_of_the_network_lacks_is_not_in_the_result():
    given = torch.sin(2 * math.pi * 12000 * torch.arange(48000, dtype=torch.float64) / 48000)
    assert enhancer().enhance(given, 48000)[12000:36000].abs().max() < 1e-4


def test_attenuation_limit_keeps_some_of_the_input():
    model, given = enhancer(), noise(2, 30000)
    with torch.no_grad():
        model.network.gain.fill_(0.0)
    for limit in (0.0, 6.0, 20.0):
        found = model.enhance(given, SR, attenuation_limit=limit)
        torch.testing.assert_close(found, given * 10 ** (-limit / 20))
    assert model.enhance(given, 44100, attenuation_limit=6.0).shape == given.shape
    with pytest.raises(RunError, match="limit is -1 dB"):
        model.enhance(given, SR, attenuation_limit=-1)


def test_separation_gives_an_axis_of_speakers():
    model, given = enhancer(Halves(), SeparationTrainer), noise(2, 9000)
    found = model.enhance(given, SR)
    torch.testing.assert_close(found, torch.stack([given, -0.5 * given], 1))
    assert model.enhance(given[0].numpy(), 8000).shape == (2, 9000)
    with pytest.raises(RunError, match="several signals"):
        model.enhance(given, SR, attenuation_limit=3)


def test_separation_writes_a_file_for_each_speaker(tmp_path):
    given = noise(2, 9000)
    soundfile.write(tmp_path / "a.wav", given.T.numpy(), SR, subtype="FLOAT")
    written = enhancer(Halves(), SeparationTrainer).enhance_file(tmp_path / "a.wav", tmp_path / "out/b.flac")
    assert [path.name for path in written.paths] == ["b_1.flac", "b_2.flac"]
    for path, gain in zip(written.paths, (1, -0.5), strict=True):
        found, sr = soundfile.read(path)
        assert (found.shape, sr) == ((9000, 2), SR)
        np.testing.assert_allclose(found, gain * given.T.numpy(), atol=1e-6)


SUBTYPES = [
    ("a.wav", "PCM_U8", "PCM_16"),
    ("a.wav", "PCM_16", "PCM_16"),
    ("a.wav", "PCM_24", "PCM_24"),
    ("a.wav", "FLOAT", "FLOAT"),
    ("a.flac", "PCM_24", "PCM_24"),
    ("a.ogg", "VORBIS", "PCM_16"),
    ("a.mp3", "MPEG_LAYER_III", "PCM_16"),
]


@pytest.mark.parametrize(("name", "given", "expected"), SUBTYPES)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_file_keeps_length_rate_channels_and_encoding(tmp_path, name, given, expected, channels):
    if name.endswith(("mp3", "ogg")) and channels == 6:
        pytest.skip("MP3 has at most two channels")
    source, target = tmp_path / name, tmp_path / "out" / f"result.{'flac' if 'flac' in name else 'wav'}"
    soundfile.write(source, noise(20001, channels).numpy(), 44100, subtype=given)
    audio, _ = soundfile.read(source, always_2d=True)
    written = enhancer().enhance_file(source, target)
    info = soundfile.info(target)
    assert (info.frames, info.samplerate, info.channels, info.subtype) == (len(audio), 44100, channels, expected)
    assert (written.frames, written.sr, written.paths) == (len(audio), 44100, (target,))


def test_file_and_array_give_the_same(tmp_path):
    given = noise(3, 300_000)
    soundfile.write(tmp_path / "a.wav", given.T.numpy(), SR, subtype="FLOAT")
    model = enhancer(Squash(), domain="magnitude", chunk_seconds=2.0, overlap_seconds=0.3)
    model.enhance_file(tmp_path / "a.wav", tmp_path / "b.wav")
    found = torch.from_numpy(soundfile.read(tmp_path / "b.wav", dtype="float32")[0].T)
    torch.testing.assert_close(found, model.enhance(given, SR), atol=1e-6, rtol=0)
    # Chunks give what the whole gives, and the rate is changed without a seam.
    whole = enhancer(Squash(), domain="magnitude").enhance(given, 44100)
    torch.testing.assert_close(model.enhance(given, 44100), whole, atol=2e-6, rtol=0)


def test_network_that_returns_another_length_is_an_error():
    class Short(EnhancementTrainer):
        def enhance_blocks(self, blocks, names):
            return (block[..., :-1] for block in blocks)

    model = enhancer(trainer=Short)
    with pytest.raises(RunError, match="999 samples for 1000"):
        model.enhance(noise(1000), SR)


def test_trainer_that_does_not_say_how_a_signal_is_enhanced_is_an_error():
    with pytest.raises(RunError, match=r"`TinyTrainer` has no method `enhance_blocks`"):
        Enhancer(make_trainer(), ModelSource("test", path=None))


def test_nothing_is_recorded_for_gradients_and_the_network_stays_in_evaluation_mode():
    model = enhancer()
    assert not model.enhance(noise(100).requires_grad_(), SR).requires_grad
    stream = model.enhance_stream([noise(1, 100), noise(1, 100)], SR)
    next(stream)
    assert torch.is_grad_enabled()
    assert not model.network.training


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"no audio at all", "can't be read as audio"),
        (None, "does not exist"),
    ],
)
def test_file_that_is_not_audio_is_an_error_and_nothing_is_written(tmp_path, content, what):
    if content is not None:
        (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(DataError, match=what):
        enhancer().enhance_file(tmp_path / "a.wav", tmp_path / "out" / "b.wav")
    assert not (tmp_path / "out").exists()


def test_truncated_flac_and_nan_are_errors_and_nothing_is_written(tmp_path):
    soundfile.write(tmp_path / "a.flac", noise(400_000).numpy(), SR)
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: len(whole) // 2])
    wave = noise(400_000)
    wave[300_000] = torch.nan
    soundfile.write(tmp_path / "b.wav", wave.numpy(), SR, subtype="FLOAT")
    for name, what in (("a.flac", "truncated or damaged"), ("b.wav", "NaN or infinite, the first at 300000")):
        with pytest.raises(DataError, match=what):
            enhancer().enhance_file(tmp_path / name, tmp_path / "out" / "c.wav")
        assert list((tmp_path / "out").iterdir() if (tmp_path / "out").exists() else []) == []


def test_unknown_format_is_an_error(tmp_path):
    soundfile.write(tmp_path / "a.wav", noise(400).numpy(), SR)
    with pytest.raises(DataError, match="has no supported file extension"):
        enhancer().enhance_file(tmp_path / "a.wav", tmp_path / "b.mp4")
    with pytest.raises(DataError, match="FLAC file does not support the encoding float"):
        enhancer().enhance_file(tmp_path / "a.wav", tmp_path / "b.flac", subtype="float")
    shutil.rmtree(tmp_path)
