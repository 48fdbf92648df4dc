"""Conv-TasNet, DPRNN and TF-GridNet: sizes of their papers, shapes, and conformance."""

from __future__ import annotations

import pytest
import torch

from audiozen.loss import PitSiSnrLoss
from audiozen.model import DPRNN, ConvTasNet, TFGridNet
from audiozen_core.errors import RunError
from audiozen_core.testing.networks import check_model
from audiozen_plugins.model.dprnn import from_chunks, into_chunks
from audiozen_plugins.model.tf_gridnet import FullBandAttention

SMALL = {
    "conv_tasnet": lambda speakers=2: ConvTasNet(
        speakers, num_filters=8, bottleneck=4, hidden=8, num_layers=2, num_repeats=2
    ),
    "dprnn": lambda speakers=2: DPRNN(
        speakers, num_filters=8, kernel_size=8, features=6, hidden=4, num_blocks=2, chunk_size=10
    ),
    "tf_gridnet": lambda speakers=2: TFGridNet(
        speakers, num_freqs=9, features=8, num_blocks=2, hidden=4, num_heads=2, head_features=2
    ),
}
NAMES = sorted(SMALL)


def mixture(name, batch=2, time=403):
    shape = (batch, 2, 9, time // 16) if name == "tf_gridnet" else (batch, time)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def size(network):
    return sum(weight.numel() for weight in network.parameters())


def test_parameter_counts_are_those_of_the_papers():
    # torchaudio leaves out the last residual convolution, whose output nothing uses. The paper counts it.
    unused = 512 * 128 + 128
    assert round((size(ConvTasNet()) + unused) / 1e6, 1) == 5.1
    assert round(size(DPRNN()) / 1e6, 1) == 2.6
    assert round(size(TFGridNet()) / 1e6, 1) == 14.5


@pytest.mark.parametrize("num_freqs", [129, 9])
def test_tf_gridnet_declares_the_n_fft_of_its_frequencies(num_freqs):
    network = TFGridNet(num_freqs=num_freqs, features=8, num_blocks=1, hidden=4, num_heads=2, head_features=2)
    assert network.acoustics == {"n_fft": 2 * (num_freqs - 1)}


@pytest.mark.parametrize("speakers", [2, 3])
@pytest.mark.parametrize("time", [400, 403, 97])
@pytest.mark.parametrize("name", NAMES)
def test_each_speaker_is_as_long_as_the_mixture(name, time, speakers):
    given = mixture(name, time=time)
    assert SMALL[name](speakers)(given).shape == (2, speakers, *given.shape[1:])


@pytest.mark.parametrize("name", NAMES)
def test_restored_model_gives_the_same_output(name):
    check_model(SMALL[name], mixture(name))


@pytest.mark.parametrize("name", NAMES)
def test_clips_of_a_batch_do_not_influence_each_other(name):
    torch.manual_seed(0)
    network, given = SMALL[name]().eval(), mixture(name, batch=3)
    with torch.no_grad():
        together = network(given)
        changed = network(torch.cat([given[:1], 2 * given[1:].flip(0)]))
        alone = network(given[:1])
    torch.testing.assert_close(together[:1], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(changed[:1], alone, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(changed[1:], together[1:], atol=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_permuted_outputs_have_the_same_loss_and_the_same_gradients(name):
    """Which output gets which speaker is not decided by the order of the sources."""
    if name == "tf_gridnet":
        pytest.skip("the loss compares waveforms; tests/plugins/trainer/test_separation.py trains this one")
    given, results = mixture(name), []
    sources = torch.randn(2, 3, given.shape[-1], generator=torch.Generator().manual_seed(1))
    for order in ([0, 1, 2], [2, 0, 1]):
        torch.manual_seed(0)
        network = SMALL[name](3)
        loss = PitSiSnrLoss()(network(given), sources[:, order])
        loss.backward()
        results.append([loss.detach(), *(weight.grad for weight in network.parameters() if weight.grad is not None)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)


def test_weights_of_torchaudio_give_the_same_output():
    from torchaudio.models import ConvTasNet as Network

    ours, theirs = SMALL["conv_tasnet"](), Network(2, 16, 8, 3, 4, 8, 2, 2)
    ours.network.load_state_dict(theirs.state_dict())
    given = mixture("conv_tasnet")
    assert torch.equal(ours(given), theirs(given.unsqueeze(1)))


@pytest.mark.parametrize("length", [1, 4, 5, 23])
def test_chunks_overlap_by_half_and_add_up_to_the_frames(length):
    frames = torch.randn(2, 3, length)
    chunks = into_chunks(frames, 8)
    assert torch.allclose(from_chunks(chunks, length), frames)
    assert torch.equal(chunks[:, :, 4:, :-1], chunks[:, :, :4, 1:])


def test_dual_path_network_sees_the_whole_signal_and_one_path_alone_does_not():
    torch.manual_seed(0)
    network = SMALL["dprnn"]()
    given = mixture("dprnn", batch=1, time=2000)
    other = given.clone()
    other[0, 0] += 10
    with torch.no_grad():
        assert not torch.equal(network(given)[..., -20:], network(other)[..., -20:])
        across = network.blocks[0].across
        chunks = torch.randn(1, 6, 10, 7)
        # Without the normalisation, the path within the chunks keeps them apart.
        network.blocks[0].within.norm = torch.nn.Identity()
        within = network.blocks[0].within
        changed = chunks.clone()
        changed[..., 0] += 1
        assert torch.equal(within(chunks)[..., 1:], within(changed)[..., 1:])
        across.norm = torch.nn.Identity()
        assert not torch.equal(across(chunks.transpose(2, 3))[..., 1:, :], across(changed.transpose(2, 3))[..., 1:, :])


def test_attention_over_frames_is_that_of_the_formula():
    torch.manual_seed(0)
    attention = FullBandAttention(features=4, num_freqs=5, num_heads=2, head_features=3)
    x = torch.randn(1, 4, 6, 5)
    with torch.no_grad():
        heads = []
        for head in range(2):
            queries, keys, values = (
                part(x)[0, head].flatten(1) for part in (attention.queries, attention.keys, attention.values)
            )
            weights = (queries @ keys.T / queries.shape[1] ** 0.5).softmax(1)
            heads.append((weights @ values).reshape(6, 2, 5).transpose(0, 1))
        expected = x + attention.joined(torch.cat(heads).unsqueeze(0))[:, 0].transpose(1, 2)
        torch.testing.assert_close(attention(x), expected)


def test_tf_gridnet_scales_with_its_input_and_keeps_silence():
    torch.manual_seed(0)
    network, given = SMALL["tf_gridnet"](), mixture("tf_gridnet")
    torch.testing.assert_close(network(100 * given), 100 * network(given), rtol=1e-3, atol=1e-3)
    assert not network(0 * given).isnan().any()
    assert network(0 * given).abs().max() < 1e-6


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ConvTasNet(kernel_size=15), "must be even"),
        (lambda: ConvTasNet(block_kernel_size=2), "must be odd"),
        (lambda: DPRNN(chunk_size=5), "must be even"),
        (lambda: TFGridNet(features=10), "multiple of `num_heads`"),
        (lambda: TFGridNet(stride=5), "at most `kernel_size`"),
        (lambda: DPRNN(0), "num_speakers"),
    ],
)
def test_arguments_out_of_range_are_errors(build, message):
    with pytest.raises((ValueError, RunError), match=message):
        build()
