"""The Triton kernels of spiking networks give what their plain form gives.

They run where there is a GPU. `TRITON_INTERPRET=1` runs them on the CPU, if Triton is installed.
"""

import copy

import pytest
import torch

from audiozen_plugins.kernels import gated_spiking as gated_kernels
from audiozen_plugins.kernels import on_gpu, sigma_delta
from audiozen_plugins.kernels.plain_forms import without_kernels
from audiozen_plugins.model import gated_spiking
from audiozen_plugins.model.gated_spiking import GatedSpikingLayer
from audiozen_plugins.model.sdnn import SDNN

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
pytestmark = pytest.mark.skipif(not on_gpu.is_available(DEVICE), reason="needs a GPU and Triton")

OPTIONS = [{}, {"shared_weights": False}, {"bn": False}, {"shared_weights": False, "bn": False}]
DTYPES = [torch.float32, torch.float64]


@pytest.fixture
def plain():
    """Calls a function without any kernel."""

    def call(function, *args):
        with without_kernels():
            return function(*args)

    return call


def noise(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def sigma_delta_with_gradients(activation, states, delay, rectify):
    activation, delay = activation.clone().requires_grad_(), delay.clone().requires_grad_()
    threshold = torch.tensor([384.0], device=DEVICE)
    levels, residual = sigma_delta.delta_levels(activation, threshold, rectify, *states)
    late = sigma_delta.delay_levels(levels, delay, delay.detach().floor().long())
    late.backward(noise(*late.shape, dtype=late.dtype, seed=1))
    return [levels.detach(), residual, late.detach(), activation.grad], delay.grad


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize("shape", [(1, 1, 1), (19, 37, 3), (40, 60, 4)])
def test_levels_and_delays_are_those_of_the_plain_form_bit_for_bit(plain, shape, rectify, dtype):
    activation = noise(*shape, dtype=dtype).cumsum(1) * 300
    states = (100 * noise(3, shape[0], shape[2], dtype=dtype, seed=2)).round()
    delay = torch.linspace(0, 1.1 * shape[1], shape[0], dtype=dtype, device=DEVICE)  # also longer than the clip
    exact, to_delay = sigma_delta_with_gradients(activation, states, delay, rectify)
    expected, expected_delay = plain(sigma_delta_with_gradients, activation, states, delay, rectify)
    for one, other in zip(exact, expected, strict=True):
        assert torch.equal(one, other)
    assert (to_delay - expected_delay).norm() <= (1e-5 if dtype == torch.float32 else 1e-12) * expected_delay.norm()
    changed = sigma_delta_with_gradients(activation, states + 400, delay, rectify)[0]
    assert not torch.equal(changed[0], exact[0])


def layer_with_gradients(layer, x):
    x = x.clone().requires_grad_()
    spikes = layer(x)
    spikes.backward(noise(*spikes.shape, dtype=x.dtype, seed=1))
    return spikes, [x.grad, *(weight.grad for weight in layer.parameters())], list(layer.state_dict().values())


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("batch", [3, 70])
def test_spikes_of_a_layer_and_its_gradients_are_those_of_the_plain_form(plain, batch, dtype, options, train):
    torch.manual_seed(0)
    layer = GatedSpikingLayer(5, 20, **options).to(dtype).train(train).to(DEVICE)
    other, x = copy.deepcopy(layer), noise(6, batch, 5, dtype=dtype)
    assert gated_kernels.has_kernel(x)
    spikes, grads, state = layer_with_gradients(layer, x)
    expected, expected_grads, expected_state = plain(layer_with_gradients, other, x)
    assert 0.1 < spikes.mean() < 0.9
    assert torch.equal(spikes, expected)
    limit = 1e-5 if dtype == torch.float32 else 1e-12
    for one, two in zip(grads, expected_grads, strict=True):
        assert (one - two).norm() <= limit * two.norm()
        assert two.norm() > 0
    for one, two in zip(state, expected_state, strict=True):
        torch.testing.assert_close(one, two, rtol=limit, atol=limit)
    with torch.no_grad():
        assert torch.equal(layer.eval()(x), plain(other.eval(), x))


def test_a_layer_never_goes_frame_by_frame_through_autograd_here(monkeypatch):
    monkeypatch.setattr(gated_spiking, "_Spike", None)
    GatedSpikingLayer(5, 8).to(DEVICE)(noise(4, 3, 5)).sum().backward()


def test_the_sigma_delta_network_is_trained_as_on_the_cpu(plain):
    torch.manual_seed(0)
    network = SDNN(num_freqs=9, hidden_size=16, max_delay=3)
    noisy = torch.rand(2, 9, 30, generator=torch.Generator().manual_seed(0)) * 4

    def trained(network, noisy):
        output = network(noisy)
        output.square().sum().backward()
        grads = [weight.grad.cpu() for weight in network.parameters() if weight.grad is not None]
        return output.detach().cpu(), grads

    expected, expected_grads = plain(trained, copy.deepcopy(network), noisy)
    output, grads = trained(network.to(DEVICE), noisy.to(DEVICE))
    # The products are rounded in another way, so a change may reach its threshold one frame later.
    assert (output - expected).norm() <= 1e-2 * expected.norm()
    together, expected_together = (
        torch.cat([each.flatten() for each in grads]),
        torch.cat([each.flatten() for each in expected_grads]),
    )
    assert (together - expected_together).norm() <= 1e-2 * expected_together.norm()
    assert expected_together.norm() > 0
