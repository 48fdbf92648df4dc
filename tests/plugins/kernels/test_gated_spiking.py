"""The kernel of a gated spiking layer gives what autograd gives frame by frame: the same spikes, bit for bit."""

import copy
import subprocess
import sys

import pytest
import torch
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from audiozen_plugins.kernels.on_cpu import CpuKernel
from audiozen_plugins.kernels.plain_forms import without_kernels
from audiozen_plugins.model import gated_spiking
from audiozen_plugins.model.gated_spiking import GatedSpikingLayer
from audiozen_plugins.model.past import Past

pytestmark = pytest.mark.skipif(not CpuKernel.is_available(), reason="needs numba")

OPTIONS = [{}, {"shared_weights": False}, {"bn": False}, {"shared_weights": False, "bn": False}]


def make(dtype=torch.float32, train=True, **options):
    torch.manual_seed(0)
    return GatedSpikingLayer(11, 24, **options).to(dtype).train(train)


def inputs(dtype=torch.float32, frames=30):
    return torch.randn(frames, 4, 11, dtype=dtype, generator=torch.Generator().manual_seed(0))


def trained(layer, x, call=lambda layer, x: layer(x)):
    """The spikes of a layer, the gradients of its input and its weights, and its state afterwards."""
    x = x.clone().requires_grad_()
    spikes = call(layer, x)
    spikes.backward(torch.randn(spikes.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1)))
    return spikes, [x.grad, *(weight.grad for weight in layer.parameters())], list(layer.state_dict().values())


@pytest.fixture
def plain(monkeypatch):
    """Calls a function without the kernel."""

    def call(function, *args):
        with monkeypatch.context() as patch, without_kernels():
            patch.setattr(gated_spiking, "gated_spikes", None)
            return function(*args)

    return call


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spikes_are_those_of_the_plain_form_bit_for_bit_and_gradients_up_to_rounding(plain, dtype, options, train):
    layer, x = make(dtype, train, **options), inputs(dtype)
    other = copy.deepcopy(layer)
    spikes, grads, state = trained(layer, x)
    expected, expected_grads, expected_state = plain(trained, other, x)
    assert 0.1 < spikes.mean() < 0.9
    assert torch.equal(spikes, expected)
    assert all(torch.equal(one, two) for one, two in zip(state, expected_state, strict=True))
    for one, two in zip(grads, expected_grads, strict=True):
        assert (one - two).norm() <= (1e-5 if dtype == torch.float32 else 1e-13) * two.norm()
        assert two.norm() > 0


@pytest.mark.parametrize("weight", ["weight_ih", "weight_hh", "bias_ih"])
def test_other_weights_give_other_spikes_and_gradients(weight):
    layer = make()
    spikes, grads, _ = trained(layer, inputs())
    other = make()
    with torch.no_grad():
        getattr(other.cell, weight).add_(0.02)
    others, other_grads, _ = trained(other, inputs())
    assert not torch.equal(spikes, others)
    assert all((one - two).norm() > 1e-3 * two.norm() for one, two in zip(grads, other_grads, strict=True))


@pytest.mark.parametrize("options", OPTIONS)
def test_gradients_are_those_of_a_smooth_layer(monkeypatch, options):
    """With spikes that are not rounded, and a surrogate that is their slope, finite differences give the gradient."""
    # The potentials are far from 0, so that no spike flips; then only the slopes of the gates are compared.
    layer, x = make(torch.float64, **options), inputs(torch.float64, frames=1)
    mix = torch.randn(1, 4, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x.requires_grad_()
    layer(x).backward(mix)

    def smooth(potential):
        # The integral of the triangle.
        near = potential.clamp(-1, 1)
        return near - near * near.abs() / 2

    class Smooth:
        apply = staticmethod(smooth)

    monkeypatch.setattr(gated_spiking, "_Spike", Smooth)
    monkeypatch.setattr(gated_spiking, "has_kernel", lambda x: False)
    step = 1e-6 * torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        difference = ((layer(x + step) - layer(x - step)) * mix).sum() / 2
    torch.testing.assert_close((x.grad * step).sum(), difference, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("options", OPTIONS)
def test_without_a_gradient_the_spikes_are_the_same_and_nothing_else_is_kept(options):
    layer, x = make(train=False, **options), inputs()
    expected = layer(x)
    made = []
    gated_spikes = gated_spiking.gated_spikes

    def watched(*args):
        made.append(gated_spikes(*args))
        return made[-1]

    with torch.inference_mode(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(gated_spiking, "gated_spikes", watched)
        assert torch.equal(layer(x), expected)
    assert [len(each) for each in made[0][1:4]] == [1, 1, 1]


@pytest.mark.parametrize("bn", [True, False])
def test_a_piece_continues_the_one_before(bn):
    layer, x = make(train=False, bn=bn), inputs()
    past = Past()
    with torch.inference_mode():
        expected = layer(x)
        pieces = []
        for piece in x.split([7, 1, 22]):
            with past.piece():
                pieces.append(layer(piece))
        assert torch.equal(torch.cat(pieces), expected)
        assert not torch.equal(layer(x[7:]), expected[7:])


def test_a_single_sequence_can_not_be_normalised_in_training():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        make()(inputs()[:, :1])


def test_a_layer_that_is_computed_again_for_the_backward_pass_has_the_same_gradients():
    spikes, grads, _ = trained(make(bn=False), inputs())
    again, grads_again, _ = trained(
        make(bn=False), inputs(), lambda layer, x: checkpoint(layer, x, use_reentrant=False)
    )
    assert torch.equal(spikes, again)
    assert all(torch.equal(one, two) for one, two in zip(grads, grads_again, strict=True))


def test_a_second_derivative_is_refused_by_the_kernel_and_computed_without_it(plain):
    def second():
        layer = make()
        x = inputs(frames=5).requires_grad_()
        (first,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), layer.cell.weight_ih)[0]

    with pytest.raises(RuntimeError, match="without_kernels"):
        second()
    assert plain(second).norm() > 0


def test_an_operation_without_a_gradient_gives_none():
    class Nothing(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return None

    layer, x = make(), inputs(frames=3).requires_grad_()
    Nothing.apply(layer(x)).sum().backward()
    assert x.grad is None or not x.grad.any()


def test_a_state_that_was_computed_gets_its_gradient(monkeypatch):
    state = [torch.randn(4, 24, requires_grad=True), torch.zeros(4, 24)]
    layer, x = make(bn=False), inputs(frames=3)
    expected = layer(x)
    monkeypatch.setattr(gated_spiking, "recall", lambda: state)
    spikes = layer(x)
    spikes.sum().backward()
    assert not torch.equal(spikes, expected)
    assert state[0].grad.norm() > 0


def test_the_matrix_products_of_the_frames_are_counted(plain):
    def flops():
        with FlopCounterMode(display=False) as counter:
            make()(inputs(frames=3))
        return counter.get_total_flops()

    assert flops() == plain(flops) > 2 * 3 * 4 * 24 * 24


@pytest.mark.slow
def test_kernels_do_not_import_the_compiler():
    """It takes two seconds and 70 MB."""
    program = """if True:
        import sys, torch
        from audiozen_plugins.loss.soft_dtw import SoftDTWLoss
        from audiozen_plugins.model import gated_spiking, sigma_delta
        layer = gated_spiking.GatedSpikingLayer(2, 3)
        layer(torch.randn(2, 2, 2)).sum().backward()
        sigma_delta.DenseBlock(2, 3, 0.1, 2)(torch.randn(2, 4, 1)).sum().backward()
        SoftDTWLoss()(torch.randn(2, 3, 1, requires_grad=True), torch.randn(2, 4, 1)).backward()
        print("numba" in sys.modules, "torch._dynamo" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


@pytest.mark.slow
def test_a_compiled_layer_is_one_graph_and_gives_the_same():
    spikes, grads, _ = trained(make(), inputs())
    compiled, compiled_grads, _ = trained(
        make(), inputs(), lambda layer, x: torch.compile(layer, backend="aot_eager", fullgraph=True)(x)
    )
    assert torch.equal(spikes, compiled)
    assert all(torch.equal(one, two) for one, two in zip(grads, compiled_grads, strict=True))
