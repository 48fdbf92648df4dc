"""The waveforms of a batch are found, cut to their lengths, and described."""

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from audiozen_core.replay.samples import Waveform, samples_of

SR = 16000


def wave(*shape):
    return torch.rand(*shape, 800)


def test_waveforms_are_distinguished_from_other_tensors():
    batch = {
        "id": ["a", "b"],
        "noisy": wave(2),
        "clean": wave(2).numpy(),
        "sources": wave(2, 3),
        "spectrogram": wave(2, 65),
        "embedding": torch.rand(2, 256),
        "label": torch.tensor([4, 7]),
        "mask": torch.ones(2, 800, dtype=torch.bool),
        "snr": [1.5, math.nan],
        "sr": SR,
    }
    first, second = samples_of(batch, SR)
    assert list(first.waves) == ["noisy", "clean", "sources_1", "sources_2", "sources_3"]
    assert torch.equal(second.waves["sources_2"].samples, batch["sources"][1, 1])
    assert torch.equal(second.waves["clean"].samples, torch.from_numpy(batch["clean"][1]))
    assert (first.id, second.id) == ("a", "b")
    assert first.values == {"label": 4, "snr": 1.5}
    assert second.values == {"label": 7}


def test_padding_is_cut():
    batch = {"noisy": wave(2), "clean": wave(2), "length": torch.tensor([800, 500])}
    batch |= {"enrolment": torch.rand(2, 2000), "enrolment_length": torch.tensor([1200, 2000])}
    first, second = samples_of(batch, SR)
    assert [len(each.samples) for each in first.waves.values()] == [800, 800, 1200]
    assert [len(each.samples) for each in second.waves.values()] == [500, 500, 2000]
    assert first.values == {"length": 800, "enrolment_length": 1200}


def test_lengths_that_do_not_fit_leave_the_padding(capsys):
    (first, _) = samples_of({"noisy": wave(2), "length": torch.tensor([900, 500])}, SR)
    assert len(first.waves["noisy"].samples) == 800


@dataclass
class Pair:
    noisy: torch.Tensor
    clean: torch.Tensor


@pytest.mark.parametrize(
    ("batch", "names"),
    [
        ((wave(2), wave(2)), ["0", "1"]),
        ([wave(2)], ["0"]),
        (wave(2), ["batch"]),
        (Pair(wave(2), wave(2)), ["noisy", "clean"]),
        ({"inputs": {"noisy": wave(2)}}, ["inputs.noisy"]),
    ],
)
def test_batches_of_any_class(batch, names):
    first, _ = samples_of(batch, SR)
    assert list(first.waves) == names


def test_a_batch_without_waveforms_has_samples():
    samples = samples_of({"x": torch.rand(3, 4), "y": torch.tensor([1, 2, 3])}, SR)
    assert [sample.waves for sample in samples] == [{}] * 3
    assert [sample.values for sample in samples] == [{"y": 1}, {"y": 2}, {"y": 3}]
    assert samples_of({"sr": SR}, SR) == []


def test_a_waveform_is_described():
    sine = torch.from_numpy(np.sin(np.arange(1600) * 2 * np.pi / 16)).float()
    found = Waveform(2 * sine, SR)
    assert found.seconds == 0.1
    assert found.peak == pytest.approx(2)
    assert found.level == pytest.approx(20 * math.log10(math.sqrt(2)), abs=1e-4)
    assert found.remark == "louder than full scale: peak 2"
    sine[7], sine[9] = math.nan, -math.inf
    broken = Waveform(sine, SR)
    assert broken.described()["not_finite"] == 2
    assert broken.described()["first_not_finite"] == 7
    assert broken.finite[[7, 9]].tolist() == [0, 0]
    assert "2 samples are not finite" in broken.remark
    silent = Waveform(torch.zeros(9), SR)
    assert silent.described() == {"seconds": 9 / SR, "peak": 0.0, "level_db": None}
    assert silent.remark == "silent"
