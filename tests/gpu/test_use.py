"""Trained networks are used on a GPU. Without one, these tests skip."""

import numpy as np
import pytest
import soundfile
import torch

import audiozen
from audiozen_core.testing.tiny import TinyExperiment
from tests.cli.conftest import audiozen as command  # noqa: F401 - a fixture

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    tiny = TinyExperiment(tmp_path_factory.mktemp("use"))
    return tiny.run().folder


def noise(samples):
    return (0.1 * np.random.default_rng(0).standard_normal(samples)).astype(np.float32)


@pytest.mark.parametrize("sr", [16000, 44100])
def test_an_array_is_enhanced_like_on_the_cpu(run, sr):
    on_gpu, on_cpu = audiozen.load(run, device="cuda"), audiozen.load(run, device="cpu")
    wave = noise(3 * sr)
    expected = on_cpu.enhance(wave, sr)
    found = on_gpu.enhance(wave, sr)
    assert on_gpu.device.type == "cuda"
    assert isinstance(found, np.ndarray)
    assert found.shape == wave.shape
    assert np.abs(found - expected).max() < 1e-4 < np.abs(expected).max()
    tensor = on_gpu.enhance(torch.from_numpy(wave).cuda(), sr)
    assert tensor.device.type == "cuda"
    assert np.abs(tensor.cpu().numpy() - expected).max() < 1e-4


@pytest.mark.parametrize("batch_size", ["1", "4"])
def test_a_folder_is_enhanced_on_a_gpu(run, tmp_path, command, batch_size):  # noqa: F811
    for number in range(4):
        (tmp_path / "noisy").mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"noisy/{number}.wav", noise(16000 + number // 2), 16000)
    results = {}
    for device in ("cpu", "cuda"):
        outcome = command(
            "enhance", str(run), str(tmp_path / "noisy"), "-o", str(tmp_path / device), "--device", device,
            "--batch-size", batch_size, "--subtype", "FLOAT",
        )  # fmt: skip
        assert outcome.code == 0, outcome.err
        results[device] = [soundfile.read(file)[0] for file in sorted((tmp_path / device).glob("*.wav"))]
    assert [len(wave) for wave in results["cuda"]] == [16000, 16000, 16001, 16001]
    for found, expected in zip(results["cuda"], results["cpu"], strict=True):
        assert np.abs(found - expected).max() < 1e-4 < np.abs(expected).max()
