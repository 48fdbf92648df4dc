"""The models give the same on a GPU and on the CPU, and so do their gradients. Without a GPU, these tests skip."""

import pytest
import torch
from torch import nn

from audiozen_plugins.model.bsrnn import BSRNN
from audiozen_plugins.model.conv_tasnet import ConvTasNet
from audiozen_plugins.model.crn import CRN
from audiozen_plugins.model.discriminators import MetricDiscriminator, MultiResolutionDiscriminator
from audiozen_plugins.model.dprnn import DPRNN
from audiozen_plugins.model.flow_net import FlowNet
from audiozen_plugins.model.gtcrn import GTCRN
from audiozen_plugins.model.spiking_fullsubnet import SpikingFullSubNet
from audiozen_plugins.model.tf_gridnet import TFGridNet
from audiozen_plugins.model.ul_unas import ULUNAS

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def spectrum(frames=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 257, frames, dtype=torch.complex64, generator=generator)


def wave(samples=8000, seed=0):
    return torch.randn(2, samples, generator=torch.Generator().manual_seed(seed))


MODELS = {
    "bsrnn": (BSRNN, spectrum),
    "conv_tasnet": (ConvTasNet, wave),
    "crn": (CRN, spectrum),
    "dprnn": (DPRNN, wave),
    "gtcrn": (GTCRN, spectrum),
    "spiking_fullsubnet": (SpikingFullSubNet, spectrum),
    "tf_gridnet": (TFGridNet, lambda: spectrum()[:, :129]),
    "ul_unas": (ULUNAS, spectrum),
}


def given_to(model: nn.Module, make):
    """Returns the input in the layout that the model declares."""
    given = make()
    layout = getattr(model, "layout", "complex")
    if getattr(model, "domain", "spectrum") == "magnitude":
        return given.abs()
    if given.is_complex() and layout != "complex":
        real = torch.view_as_real(given)
        return real.movedim(-1, 1).contiguous() if layout == "channels_first" else real.contiguous()
    return given


@pytest.fixture(autouse=True)
def full_precision():
    with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
        yield


def gradients_of(model, given):
    """Returns the output and the gradients of a model, on the CPU."""
    model.zero_grad()
    output = model(given)
    (torch.view_as_real(output) if output.is_complex() else output).square().mean().backward()
    gradients = {
        name: weight.grad.cpu().clone() for name, weight in model.named_parameters() if weight.grad is not None
    }
    return output.detach().cpu(), gradients


def relative(one, other):
    return float((one - other).abs().square().sum().sqrt() / other.abs().square().sum().sqrt().clamp_min(1e-12))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_gives_the_same_on_gpu_and_cpu(name):
    cls, make = MODELS[name]
    torch.manual_seed(0)
    model = cls().eval()
    given = given_to(model, make)
    with torch.no_grad():
        on_cpu = model(given)
        on_gpu = model.cuda()(given.cuda()).cpu()
    # A spike that falls the other way changes what follows.
    assert relative(on_gpu, on_cpu) < (0.05 if name == "spiking_fullsubnet" else 1e-3)
    assert on_cpu.abs().mean() > 0


@pytest.mark.parametrize("name", sorted(set(MODELS) - {"spiking_fullsubnet"}))
def test_the_gradients_of_a_model_are_the_same_on_gpu_and_cpu(name):
    cls, make = MODELS[name]
    torch.manual_seed(0)
    model = cls().train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.eval()
    given = given_to(model, make)
    _, on_cpu = gradients_of(model, given)
    _, on_gpu = gradients_of(model.cuda(), given.cuda())
    assert on_cpu
    assert on_gpu.keys() == on_cpu.keys()
    together = [torch.cat([gradients[key].flatten() for key in on_cpu]) for gradients in (on_gpu, on_cpu)]
    assert relative(*together) < 0.01


def test_spiking_fullsubnet_trains_on_a_gpu():
    torch.manual_seed(0)
    model = SpikingFullSubNet().cuda()
    _, gradients = gradients_of(model, given_to(model, spectrum).cuda())
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert any(gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("make", [MetricDiscriminator, MultiResolutionDiscriminator])
def test_a_discriminator_gives_the_same_on_gpu_and_cpu(make):
    torch.manual_seed(0)
    model = make().eval()
    signals = (wave(), wave(seed=1)) if make is MetricDiscriminator else (wave(),)
    with torch.no_grad():
        on_cpu = model(*signals)
        on_gpu = model.cuda()(*(signal.cuda() for signal in signals))
    for one, other in zip(_flat(on_gpu), _flat(on_cpu), strict=True):
        assert relative(one.cpu(), other) < 1e-3


def _flat(outputs):
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    return [tensor for output in outputs for tensor in _flat(output)]


def test_flow_net_gives_the_same_on_gpu_and_cpu():
    torch.manual_seed(0)
    model = FlowNet().eval()
    given = [given_to(model, make) for make in (spectrum, lambda: spectrum(seed=1))]
    time = torch.tensor([0.2, 0.7])
    with torch.no_grad():
        on_cpu = model(*given, time)
        on_gpu = model.cuda()(*(one.cuda() for one in given), time.cuda()).cpu()
    assert relative(on_gpu, on_cpu) < 1e-3
