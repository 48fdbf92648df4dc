import pytest
import torch

from audiozen.model import FlowNet, MetricDiscriminator, MultiResolutionDiscriminator
from audiozen_core.testing.networks import check_model

WAVE = torch.randn(2, 2000, generator=torch.Generator().manual_seed(0))
CLEAN = torch.randn(2, 2000, generator=torch.Generator().manual_seed(1))
SMALL = ((256, 128), (64, 32), (256, 128))


def test_discriminators_and_flow_net_train_and_restore():
    check_model(lambda: MetricDiscriminator(256, 128, channels=4), WAVE, CLEAN)
    check_model(lambda: FlowNet(4, 2, 2), *torch.randn(2, 2, 2, 65, 9).unbind(0), torch.tensor([0.1, 0.9]))


def test_metric_discriminator_judges_each_clip_by_itself():
    network = MetricDiscriminator(256, 128).eval()
    both = network(WAVE, CLEAN)
    torch.testing.assert_close(network(WAVE[1:], CLEAN[1:]), both[1:])
    assert not torch.allclose(both, network(WAVE, WAVE))


def test_multi_resolution_discriminator_has_the_parameters_and_shapes_of_its_layers():
    network = MultiResolutionDiscriminator(*SMALL, channels=8)
    judgements = network(WAVE)
    assert [one.shape for one in judgements[0]] == [
        (2, 8, 129, 32), (2, 8, 129, 16), (2, 8, 129, 8), (2, 8, 129, 4), (2, 8, 129, 4), (2, 1, 129, 4),
    ]  # fmt: skip
    # Weight normalisation adds one number for each output channel.
    convolution = [8 * 27, *[64 * 27] * 3, 64 * 9, 8 * 9]
    assert sum(weight.numel() for weight in network.parameters()) == 2 * (sum(convolution) + 2 * (5 * 8 + 1))
    sum(part.square().mean() for judgement in judgements for part in judgement).backward()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())


def test_resolutions_of_different_lengths_are_refused():
    with pytest.raises(ValueError, match="have 2, 1 and 2"):
        MultiResolutionDiscriminator((256, 128), (64,), (256, 128))


def test_flow_net_depends_on_the_time_and_keeps_any_shape():
    network = FlowNet(4, 3, 2)
    torch.nn.init.normal_(network.leave.weight)
    state, noisy = torch.randn(2, 1, 2, 61, 5).unbind(0)
    early, late = (network(state, noisy, torch.tensor([time])) for time in (0.1, 0.9))
    assert early.shape == state.shape
    assert not torch.allclose(early, late)
