"""The blocks of the sigma-delta network agree with stored vectors and with a plain loop over the frames."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from audiozen_plugins.model.sigma_delta import (
    STEPS_PER_UNIT,
    AxonalDelay,
    Delta,
    DenseBlock,
    InputBlock,
    OutputBlock,
    delta_spikes,
    quantize,
)


def to_levels(spikes: Tensor) -> Tensor:
    """Converts the spikes of the stored vectors, [batch, channels, frames], to the input levels of the blocks."""
    return spikes.permute(1, 2, 0).cumsum(1) * STEPS_PER_UNIT


def to_spikes(levels: Tensor) -> Tensor:
    return delta_spikes(levels).permute(2, 0, 1) / STEPS_PER_UNIT


def plain_delta(activation: Tensor, threshold: float) -> Tensor:
    """Computes the spikes of activations [batch, channels, frames] with a plain loop over the frames."""
    previous = residual = torch.zeros_like(activation[..., 0])
    spikes = []
    for now in activation.unbind(-1):
        change = now - previous + residual
        sent = torch.where(change.abs() >= threshold, change, torch.zeros_like(change))
        previous, residual = now, change - sent
        spikes.append(torch.floor(sent * STEPS_PER_UNIT) / STEPS_PER_UNIT)
    return torch.stack(spikes, dim=-1)


def dense_block_on(vector: dict[str, Tensor], threshold: float) -> dict[str, Tensor]:
    block = DenseBlock(8, 6, threshold, max_delay=64)
    block.load_state_dict({"synapse.weight": vector["weight"], "delay.delay": vector["delay"]}, strict=False)
    spikes = vector["input"].clone().requires_grad_()
    output = to_spikes(block(to_levels(spikes)))
    output.backward(vector["grad_output"])
    return {
        "output": output,
        "grad_input": spikes.grad,
        "grad_weight": block.synapse.weight.grad,
        "grad_delay": block.delay.delay.grad,
    }


def test_the_dense_block_agrees_with_the_reference_forward_and_backward(reference_data):
    vector = load_file(reference_data / "sdnn" / "dense_block_forward_backward.safetensors")
    for name, tensor in dense_block_on(vector, threshold=0.1).items():
        torch.testing.assert_close(
            tensor, vector[name], rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_the_dense_block_with_another_threshold_does_not_agree(reference_data):
    vector = load_file(reference_data / "sdnn" / "dense_block_forward_backward.safetensors")
    wrong = dense_block_on(vector, threshold=0.15)
    assert (wrong["output"] - vector["output"]).abs().max() > 1e-2
    assert (wrong["grad_delay"] - vector["grad_delay"]).abs().max() > 1e-2


def test_the_dense_block_without_its_delays_does_not_agree(reference_data):
    vector = load_file(reference_data / "sdnn" / "dense_block_forward_backward.safetensors")
    wrong = dense_block_on({**vector, "delay": torch.zeros(6)}, threshold=0.1)
    for name in ("output", "grad_input", "grad_weight", "grad_delay"):
        assert (wrong[name] - vector[name]).abs().max() > 1e-2, name


def input_output_on(vector: dict[str, Tensor], threshold: float) -> dict[str, Tensor]:
    encode = InputBlock(threshold, step=2 / 64, low=-4, high=254 / 64)
    decode = OutputBlock(6, 5, threshold)
    decode.load_state_dict({"synapse.weight": vector["weight"]}, strict=False)
    values = vector["input"].clone().requires_grad_()
    levels = encode(values.permute(1, 2, 0))
    output = decode(levels).permute(2, 0, 1)
    output.backward(vector["grad_output"])
    return {
        "after_input_block": to_spikes(levels),
        "after_output_block": output,
        "grad_input": values.grad,
        "grad_weight": decode.synapse.weight.grad,
    }


def test_the_input_and_output_blocks_agree_with_the_reference_forward_and_backward(reference_data):
    vector = load_file(reference_data / "sdnn" / "input_output_blocks_forward_backward.safetensors")
    for name, tensor in input_output_on(vector, threshold=0.1).items():
        torch.testing.assert_close(
            tensor, vector[name], rtol=0, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_the_input_block_with_another_threshold_does_not_agree(reference_data):
    vector = load_file(reference_data / "sdnn" / "input_output_blocks_forward_backward.safetensors")
    wrong = input_output_on(vector, threshold=0.12)
    assert (wrong["after_input_block"] - vector["after_input_block"]).abs().max() > 1e-2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_delta_unit_sends_what_the_plain_recursion_sends(dtype):
    torch.manual_seed(0)
    activation = torch.randn(3, 7, 50, dtype=dtype).cumsum(-1) * 0.1
    levels = Delta(0.1)(activation.permute(1, 2, 0) * STEPS_PER_UNIT)
    spikes = plain_delta(activation, threshold=6 / 64)
    assert torch.equal(to_spikes(levels), spikes)
    assert 0.1 < (spikes == 0).double().mean() < 0.9, "the threshold should hold back some changes, not all"


def test_delta_unit_sends_changes_at_the_threshold_and_accumulates_smaller_changes():
    activation = torch.tensor([6.0, 6.0, 11.0, 12.0]).view(1, 4, 1) / 64 * STEPS_PER_UNIT
    levels = Delta(6 / 64)(activation).flatten() / STEPS_PER_UNIT * 64
    assert levels.tolist() == [6.0, 6.0, 6.0, 12.0]


def test_gradient_of_spikes_is_the_difference_of_consecutive_frames():
    torch.manual_seed(0)
    activation = torch.randn(4, 20, 2, requires_grad=True)
    weight = torch.randn(4, 20, 2)
    (delta_spikes(Delta(0.5)(activation)) * weight).sum().backward()
    following = torch.cat([weight[:, 1:], torch.zeros(4, 1, 2)], dim=1)
    torch.testing.assert_close(activation.grad, weight - following)


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_a_delta_unit_accepts_sequences_of_any_length(frames):
    assert Delta(0.1)(torch.ones(3, frames, 2)).shape == (3, frames, 2)


def test_threshold_does_not_hide_nan():
    activation = torch.tensor([0.0, math.nan, 0.0]).view(1, 3, 1)
    assert Delta(0.1)(activation).isnan().flatten().tolist() == [False, True, True]


def test_each_channel_is_delayed_by_its_own_whole_number_of_frames():
    delay = AxonalDelay(3, max_delay=4)
    with torch.no_grad():
        delay.delay.copy_(torch.tensor([0.0, 1.9, 9.0]))
    rows = delay(torch.arange(1.0, 8.0).expand(3, 7)[..., None])[..., 0]
    assert rows.tolist() == [[0, 1, 2, 3, 4, 5, 6], [0, 0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 1, 2]]


def test_delay_longer_than_the_clip_gives_silence_and_zero_gradients():
    delay = AxonalDelay(2, max_delay=64)
    with torch.no_grad():
        delay.delay.fill_(40)
    levels = torch.ones(2, 5, 3, requires_grad=True)
    delayed = delay(levels)
    delayed.sum().backward()
    assert delayed.abs().max() == 0
    assert levels.grad.abs().max() == 0


def test_learned_delay_is_clamped_only_during_training():
    delay = AxonalDelay(2, max_delay=4)
    with torch.no_grad():
        delay.delay.copy_(torch.tensor([-3.0, 9.0]))
    delay.eval()(torch.ones(2, 5, 1))
    assert delay.delay.tolist() == [-3.0, 9.0]
    delay.train()(torch.ones(2, 5, 1))
    assert delay.delay.tolist() == [0.0, 4.0]


def test_quantising_rounds_and_clamps_and_passes_the_gradient_inside_the_range():
    x = torch.tensor([-9.0, -0.26, 0.1, 0.13, 9.0], requires_grad=True)
    rounded = quantize(x, 0.25, low=-4, high=4)
    rounded.sum().backward()
    assert rounded.tolist() == [-4.0, -0.25, 0.0, 0.25, 4.0]
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
