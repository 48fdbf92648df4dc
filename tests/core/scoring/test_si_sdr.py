"""SI-SDR in blocks: equal to the formula for the whole signal at once, and without copies of it."""

import functools
import importlib
import math

import pytest
import torch

from audiozen_core.scoring import blocks as in_blocks
from audiozen_core.scoring.blocks import all_finite, constant
from audiozen_core.scoring.si_sdr import si_sdr

si_sdr_module = importlib.import_module("audiozen_core.scoring.si_sdr")


def formula(estimate, reference, *, zero_mean):
    """Computes the ratio from float64 copies of whole signals."""
    estimate, reference = estimate.double(), reference.double()
    if zero_mean:
        estimate, reference = (signal - signal.mean(-1, keepdim=True) for signal in (estimate, reference))
    target = (estimate * reference).sum(-1, keepdim=True) / reference.square().sum(-1, keepdim=True) * reference
    return 10 * torch.log10(target.square().sum(-1) / (estimate - target).square().sum(-1))


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("zero_mean", [True, False])
@pytest.mark.parametrize("offset", [0.0, 0.3, 100.0])
@pytest.mark.parametrize("shape", [(1000,), (999,), (7,), (2, 3, 1001)])
def test_si_sdr_in_blocks_is_that_of_the_formula(monkeypatch, shape, offset, zero_mean):
    monkeypatch.setattr(in_blocks, "_BLOCK", 100)
    reference = normal(*shape) + offset
    estimate = 0.3 * reference + 0.1 * normal(*shape, seed=1)
    expected = formula(estimate, reference, zero_mean=zero_mean)
    torch.testing.assert_close(si_sdr(estimate, reference, zero_mean=zero_mean), expected, rtol=1e-12, atol=0)


def test_mean_is_that_of_the_signal_and_not_of_a_block(monkeypatch):
    """Blocks with means of their own would have a ratio about 40 dB higher."""
    monkeypatch.setattr(in_blocks, "_BLOCK", 100)
    steps = torch.arange(10.0).repeat_interleave(100)
    reference = normal(1000)
    estimate = reference + steps
    expected = formula(estimate, reference, zero_mean=True).item()
    assert si_sdr(estimate, reference).item() == pytest.approx(expected, rel=1e-12)
    assert expected < 0


def test_edges_of_the_value_do_not_depend_on_blocks(monkeypatch):
    monkeypatch.setattr(in_blocks, "_BLOCK", 100)
    reference = normal(950)
    assert si_sdr(0.3 * reference + 0.1, reference).item() == math.inf
    assert si_sdr(0.3 * reference + 0.1, reference, zero_mean=False).item() < 20
    for silent in (torch.zeros(950), torch.full((950,), 0.1)):
        assert math.isnan(si_sdr(silent, reference).item())
        assert math.isnan(si_sdr(reference, silent).item())
    pulse = torch.zeros(950)
    pulse[-1] = 1.0
    assert math.isfinite(si_sdr(pulse, reference).item())


def test_faults_are_found_in_every_block(monkeypatch):
    monkeypatch.setattr(in_blocks, "_BLOCK", 100)
    wave = torch.full((2, 950), 0.1)
    assert constant(wave).tolist() == [True, True]
    wave[1, 949] = 0.2  # the only other value, in the last block
    assert constant(wave).tolist() == [True, False]
    assert constant(torch.arange(10.0).repeat_interleave(100)).item() is False  # each block is constant
    assert all_finite(wave)
    assert all_finite(wave[:, :0])
    assert constant(wave[:, :0]).tolist() == [True, True]
    assert not constant(torch.full((3,), math.nan))
    for place in (0, 100, 949):
        for value in (math.nan, math.inf, -math.inf):
            spoiled = wave.clone()
            spoiled[0, place] = value
            assert not all_finite(spoiled)


def plain(estimate, reference):
    """Computes the ratio as before blocks were kept: each sum converts and centres them anew."""

    def total(terms):
        return functools.reduce(torch.add, terms)

    def centred(signal, mean):
        return [part.double() - mean.unsqueeze(-1) for part in in_blocks.blocks(signal)]

    def dot(first, second):
        return total(torch.mul(*pair).sum(-1) for pair in zip(first, second, strict=True))

    means = [
        total(part.double().sum(-1) for part in in_blocks.blocks(one)) / one.shape[-1] for one in (estimate, reference)
    ]
    first, second = (centred(one, mean) for one, mean in zip((estimate, reference), means, strict=True))
    energy = dot(second, second)
    scale = dot(first, second) / energy
    error = total(
        (one - scale.unsqueeze(-1) * other).square().sum(-1) for one, other in zip(first, second, strict=True)
    )
    return 10 * torch.log10(scale.square() * energy / error)


@pytest.mark.parametrize("kept", [0, 1 << 20])
@pytest.mark.parametrize("shape", [(1,), (3, 950), (70_000,)])
def test_blocks_that_are_kept_change_no_bit(monkeypatch, shape, kept):
    monkeypatch.setattr(si_sdr_module, "_MOST_KEPT", kept)
    reference = normal(*shape)
    estimate = 0.3 * reference + 0.1 * normal(*shape, seed=1) + 0.2
    torch.testing.assert_close(si_sdr(estimate, reference), plain(estimate, reference), rtol=0, atol=0, equal_nan=True)
