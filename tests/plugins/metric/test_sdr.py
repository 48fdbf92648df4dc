"""The SDR of BSS Eval, against a least-squares solution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from audiozen.metric import Sdr, SiSdr, bss_eval_sdr
from audiozen_core.errors import RunError
from audiozen_core.scoring.si_sdr import si_sdr


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(1500, generator=generator)
    filtered = F.conv1d(F.pad(reference, (3, 0)).view(1, 1, -1), torch.tensor([[[0.2, -0.5, 0.0, 1.0]]])).view(-1)
    return filtered + 0.1 * torch.randn(1500, generator=generator), reference


@pytest.mark.parametrize("length", [1, 2, 40])
def test_sdr_is_that_of_the_best_filter(pair, length):
    estimate, reference = (wave.double().numpy() for wave in pair)
    delays = np.zeros((1500 + length - 1, length))
    for delay in range(length):
        delays[delay : delay + 1500, delay] = reference
    padded = np.pad(estimate, (0, length - 1))
    target = delays @ np.linalg.lstsq(delays, padded, rcond=None)[0]
    expected = 10 * np.log10((target**2).sum() / ((padded - target) ** 2).sum())
    assert float(bss_eval_sdr(*pair, filter_length=length)) == pytest.approx(expected, abs=1e-4)


def test_a_filter_is_no_distortion_but_for_si_sdr_it_is(pair):
    assert Sdr()(*pair, sr=16000) > 20
    assert SiSdr()(*pair, sr=16000) < 10


def test_with_a_filter_of_one_sample_it_is_si_sdr(pair):
    assert float(bss_eval_sdr(*pair, filter_length=1)) == pytest.approx(float(si_sdr(*pair, zero_mean=False)), abs=1e-4)


def test_several_signals_are_rated_at_once(pair):
    estimates, references = (torch.stack([wave, wave.flip(0)]) for wave in pair)
    both = bss_eval_sdr(estimates, references, filter_length=8)
    one = bss_eval_sdr(*pair, filter_length=8)
    assert both.shape == (2,)
    assert float(both[0]) == pytest.approx(float(one))


def test_silence_has_no_value_and_shapes_must_agree(pair):
    assert bss_eval_sdr(pair[0], 0 * pair[1]).isnan()
    assert bss_eval_sdr(0 * pair[0], pair[1]).isnan()
    with pytest.raises(ValueError, match="shapes differ"):
        bss_eval_sdr(pair[0][1:], pair[1])
    with pytest.raises(RunError, match="filter_length"):
        Sdr(filter_length=0)


def test_name_tells_another_filter():
    assert (Sdr().name, Sdr(filter_length=1).name) == ("sdr", "sdr_1")
