"""The kernels of the sigma-delta network give what their plain form gives: the same levels, bit for bit."""

import math

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from audiozen_plugins.kernels import sigma_delta
from audiozen_plugins.kernels.on_cpu import CpuKernel
from audiozen_plugins.kernels.plain_forms import without_kernels
from audiozen_plugins.model.sdnn import SDNN

pytestmark = pytest.mark.skipif(not CpuKernel.is_available(), reason="needs numba")

THRESHOLD = 384.0


@pytest.fixture
def plain(monkeypatch):
    """Calls a function without any kernel."""

    def call(function, *args):
        with monkeypatch.context() as patch, without_kernels():
            patch.setattr(sigma_delta, "_delta_levels", None)
            patch.setattr(sigma_delta, "_delay_levels", None)
            patch.setattr(sigma_delta, "_delay_levels_backward", None)
            return function(*args)

    return call


def activations(channels=19, frames=37, batch=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(channels, frames, batch, dtype=dtype, generator=generator).cumsum(1) * 300


def states(activation, seed=1):
    """A state before the first frame: an activation, a residual below the threshold, and a level."""
    generator = torch.Generator().manual_seed(seed)
    shape = activation.shape[0], activation.shape[2]
    last, rest, level = torch.randn(3, *shape, dtype=activation.dtype, generator=generator) * 100
    return last.relu(), rest, level.round()


def levels_of(activation, rectify, state, threshold=THRESHOLD):
    return sigma_delta.delta_levels(activation, torch.tensor([threshold]), rectify, *state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (19, 37, 3), (32, 16, 4), (17, 70, 4), (2, 33, 8), (3, 40, 5), (5, 33, 1)]
)
def test_levels_are_those_of_the_plain_form_bit_for_bit(plain, shape, rectify, dtype):
    activation = activations(*shape, dtype=dtype)
    state = states(activation)
    levels, residual = levels_of(activation, rectify, state)
    expected, expected_residual = plain(levels_of, activation, rectify, state)
    assert torch.equal(levels, expected)
    assert torch.equal(residual, expected_residual)
    assert levels.dtype == dtype


@pytest.mark.parametrize(("batch", "pieces"), [(1, 1), (3, 3), (4, 1), (8, 2), (32, 32)])
def test_a_small_batch_is_copied_in_pieces_of_16_bytes(batch, pieces):
    array = activations(batch=batch).numpy()
    in_pieces = sigma_delta._in_pieces(array)
    assert in_pieces.shape == (19, 37, pieces)
    assert in_pieces.tobytes() == array.tobytes()


def test_levels_with_another_threshold_or_state_differ():
    activation = activations()
    state = states(activation)
    levels, _ = levels_of(activation, True, state)
    assert not torch.equal(levels, levels_of(activation, True, state, threshold=383.0)[0])
    assert not torch.equal(levels, levels_of(activation, True, states(activation, seed=2))[0])
    assert not torch.equal(levels, levels_of(activation, False, state)[0])


def test_levels_do_not_depend_on_the_layout_in_memory():
    activation = activations()
    turned = activation.permute(2, 0, 1).contiguous().permute(1, 2, 0)
    assert not turned.is_contiguous()
    assert torch.equal(
        levels_of(turned, True, states(activation))[0], levels_of(activation, True, states(activation))[0]
    )


def test_a_nan_stays_and_changes_at_the_threshold_are_sent():
    activation = torch.tensor([0.0, THRESHOLD, math.nan, 0.0]).view(1, 4, 1)
    levels, residual = levels_of(activation, True, torch.zeros(3, 1, 1))
    assert levels.flatten()[:2].tolist() == [0.0, THRESHOLD]
    assert levels.isnan().flatten().tolist() == [False, False, True, True]
    assert residual.isnan().all()


def test_the_gradient_of_levels_passes_where_the_rectifier_is_open():
    activation = activations().requires_grad_()
    levels, residual = levels_of(activation, True, states(activation))
    assert not residual.requires_grad
    grad = torch.randn(levels.shape, generator=torch.Generator().manual_seed(2))
    levels.backward(grad)
    assert torch.equal(activation.grad, grad * (activation > 0))
    assert 0.1 < (activation.grad == 0).double().mean() < 0.9


def delayed(levels, delay):
    """The delayed levels, and both gradients."""
    levels, delay = levels.clone().requires_grad_(), delay.clone().requires_grad_()
    late = sigma_delta.delay_levels(levels, delay, delay.detach().floor().long())
    late.backward(torch.randn(late.shape, dtype=late.dtype, generator=torch.Generator().manual_seed(3)))
    return late, levels.grad, delay.grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_delays_and_their_gradients_are_those_of_the_plain_form(plain, dtype):
    levels, _ = levels_of(activations(dtype=dtype), True, states(activations(dtype=dtype)))
    delay = torch.linspace(0, 40, len(levels), dtype=dtype)  # also the whole clip, and more
    late, to_levels, to_delay = delayed(levels, delay)
    expected, expected_levels, expected_delay = plain(delayed, levels, delay)
    assert torch.equal(late, expected)
    assert torch.equal(to_levels, expected_levels)
    torch.testing.assert_close(to_delay, expected_delay, rtol=1e-5 if dtype == torch.float32 else 1e-12, atol=0.0)
    assert to_delay[:10].abs().min() > 0
    assert not torch.equal(late, delayed(levels, delay + 1)[0])


def test_delays_and_levels_have_second_derivatives(plain):
    # The levels of a state, which is not a leaf, and a rectifier that is open for some activations.
    def second():
        activation = activations(dtype=torch.float64).div(300).requires_grad_()
        delay = torch.linspace(0, 40, len(activation), dtype=torch.float64).requires_grad_()
        levels, _ = levels_of(activation, True, states(activation), threshold=0.1)
        late = sigma_delta.delay_levels(levels, delay, delay.detach().floor().long())
        firsts = torch.autograd.grad(late.square().sum(), (activation, delay), create_graph=True)
        return torch.autograd.grad(sum(first.square().sum() for first in firsts), activation)[0]

    ours = second()
    torch.testing.assert_close(ours, plain(second), rtol=1e-9, atol=1e-9)
    assert ours.norm() > 0


def trained(network, noisy):
    """The output of a network, and the gradients of its weights."""
    network.zero_grad()
    output = network(noisy)
    output.square().sum().backward()
    return [output.detach(), *(weight.grad.clone() for weight in network.parameters() if weight.grad is not None)]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SDNN(num_freqs=9, hidden_size=16, max_delay=3)


@pytest.fixture(scope="module")
def noisy():
    return torch.rand(2, 9, 30, generator=torch.Generator().manual_seed(0)) * 4


def test_a_network_is_trained_as_without_kernels(plain, network, noisy):
    ours, theirs = trained(network, noisy), plain(trained, network, noisy)
    assert len(ours) == 6
    assert torch.equal(ours[0], theirs[0])
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_network_is_trained_in_the_same_way_when_it_is_computed_again_for_the_backward_pass(network, noisy):
    ours = trained(network, noisy)
    again = trained(_Again(network), noisy)
    assert all(torch.equal(one, other) for one, other in zip(ours, again, strict=True))


class _Again(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return checkpoint(self.network, x, use_reentrant=False)
