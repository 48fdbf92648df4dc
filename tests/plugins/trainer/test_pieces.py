"""Long files: a causal network carries its state from piece to piece, so that they give what the whole file gives."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from audiozen.model import BSRNN, CRN, GTCRN, SDNN, ULUNAS, SpikingFullSubNet
from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.audio.chunks import join_pieces
from audiozen_core.trainer.components import Components
from audiozen_plugins.model.past import Past, keep, recall
from audiozen_plugins.trainer import enhancement
from audiozen_plugins.trainer.enhancement import EnhancementTrainer
from tests.plugins.model.conftest import read_wave


class Running(nn.Module):
    """Subtracts the running mean of each magnitude, `out_delay` frames late."""

    carries_state = True

    def __init__(self, out_delay=0, domain="magnitude"):
        super().__init__()
        self.out_delay = out_delay
        self.domain = domain
        self.level = nn.Parameter(torch.tensor(0.5))

    def forward(self, x):
        past = recall()
        total, count, late = (0.0, 0.0, x.new_zeros(*x.shape[:-1], self.out_delay)) if past is None else past
        sums = x.cumsum(-1) + total
        counts = torch.arange(1, x.shape[-1] + 1) + count
        result = torch.cat([late, x - self.level * sums / counts], dim=-1)
        keep((sums[..., -1:], counts[-1:], result[..., x.shape[-1] :]))
        return result[..., : x.shape[-1]]


def noise(length, batch=1):
    return 0.1 * torch.randn(batch, length, generator=torch.Generator().manual_seed(length))


def make(model, acoustics, **args):
    torch.manual_seed(0)
    model.eval()
    return EnhancementTrainer(Components({"": model}, acoustics=acoustics), metrics=[], **args)


def in_pieces(trainer, noisy, block=777):
    with torch.no_grad():
        return join_pieces(trainer.enhance_blocks(noisy.split(block, dim=-1), ["a"] * len(noisy)), noisy.shape[-1])


def whole(trainer, noisy):
    with torch.no_grad():
        return trainer.enhance(noisy)[0]


def difference(first, second):
    """Returns the difference of two signals in dB, relative to the second one."""
    return (10 * torch.log10((first - second).square().sum() / second.square().sum() + 1e-20)).item()


@pytest.fixture(autouse=True)
def short_pieces(monkeypatch):
    monkeypatch.setattr(enhancement, "_PIECE_SECONDS", 0.25)


ACOUSTICS = {
    "centred": Acoustics(n_fft=256, win_length=256, hop_length=128),
    "zeros at the ends": Acoustics(n_fft=256, win_length=256, hop_length=64, pad_mode="constant"),
    "not centred": Acoustics(n_fft=256, win_length=200, hop_length=100, center=False),
    "odd hop": Acoustics(n_fft=320, win_length=320, hop_length=107),
}


@pytest.mark.parametrize("length", [200, 4000, 4001, 16000, 18999, 24321])
@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("domain", ["magnitude", "spectrum"])
@pytest.mark.parametrize("acoustics", ACOUSTICS.values(), ids=ACOUSTICS.keys())
def test_pieces_give_what_the_whole_signal_gives(acoustics, domain, delay, length):
    trainer, noisy = make(Running(delay, domain), acoustics), noise(length, batch=2)
    expected = whole(trainer, noisy)
    assert (in_pieces(trainer, noisy) - expected).abs().max() < 1e-5
    assert (in_pieces(trainer, noisy, block=length) - expected).abs().max() < 1e-5


def test_blocks_of_a_single_sample_give_the_same():
    trainer, noisy = make(Running(), ACOUSTICS["centred"]), noise(9000)
    assert (in_pieces(trainer, noisy, block=1) - whole(trainer, noisy)).abs().max() < 1e-5


CUMULATIVE = "cumulative_laplace_norm"
NETWORKS = {
    "crn": (lambda: CRN(num_freqs=129, num_low=16, num_bands=16, kernel_size=3, hidden_size=16), ACOUSTICS["centred"]),
    "gtcrn": (GTCRN, Acoustics(**GTCRN.acoustics)),
    "ul_unas": (ULUNAS, Acoustics(**ULUNAS.acoustics)),
    "sdnn": (
        lambda: SDNN(0.02, num_freqs=129, hidden_size=32, max_delay=20, out_delay=2, carries_state=True),
        Acoustics(n_fft=256, win_length=256, hop_length=64),
    ),
    "spiking_fullsubnet": (
        lambda: SpikingFullSubNet(
            num_freqs=128,
            fb_freqs=32,
            fb_hidden_size=8,
            sb_hidden_size=8,
            freq_cutoffs=(16,),
            norm_type=CUMULATIVE,
            sb_num_center_freqs=(4, 16),
            sb_num_neighbor_freqs=(3, 3),
            sb_df_orders=(3, 1),
        ),
        Acoustics(n_fft=256, win_length=256, hop_length=128, pad_mode="constant"),
    ),
    "bsrnn": (lambda: BSRNN(features=8, num_blocks=1), Acoustics(n_fft=320, win_length=320, hop_length=160)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_causal_networks_carry_their_state(name):
    network, acoustics = NETWORKS[name]
    torch.manual_seed(1)
    trainer, noisy = make(network(), acoustics), noise(12000)
    expected = whole(trainer, noisy)
    assert difference(in_pieces(trainer, noisy), expected) < -100
    # Negative control: chunks, in which the network starts anew, differ.
    restarting = make(trainer.model, acoustics, chunk_seconds=0.25, overlap_seconds=0.06)
    assert difference(in_pieces(restarting, noisy), expected) > -90
    # Nothing is left behind.
    assert torch.equal(whole(trainer, noisy), expected)


def test_published_gtcrn_gives_the_same_in_pieces_and_not_in_chunks(reference):
    network = GTCRN()
    network.load_state_dict(load_file(reference / "gtcrn" / "dns3.safetensors"))
    trainer = make(network, Acoustics(**GTCRN.acoustics))
    noisy = read_wave(reference / "gtcrn" / "mix.wav")[:, :40000]
    expected = whole(trainer, noisy)
    assert difference(in_pieces(trainer, noisy), expected) < -110
    restarting = make(network, Acoustics(**GTCRN.acoustics), chunk_seconds=1.0, overlap_seconds=0.1)
    assert difference(in_pieces(restarting, noisy), expected) > -60


def test_compiled_network_carries_its_state():
    network = NETWORKS["crn"][0]().eval()
    trainer, noisy = make(network, ACOUSTICS["centred"]), noise(9000)
    expected = whole(trainer, noisy)
    network.compile(backend="eager")
    assert (whole(trainer, noisy) - expected).abs().max() < 1e-6
    assert difference(in_pieces(trainer, noisy), expected) < -100
    assert (whole(trainer, noisy) - expected).abs().max() < 1e-6


def test_pieces_do_not_import_the_compiler():
    """It takes 70 MB, and only a network that was compiled needs it."""
    code = (
        "import sys, torch; from audiozen.model import CRN; from audiozen_plugins.model.past import Past\n"
        "with torch.no_grad(), Past().piece(): CRN().eval()(torch.zeros(1, 2, 257, 4))\n"
        "print('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.strip() == "False"


def test_last_piece_recalls_but_keeps_nothing():
    network, past = Running(out_delay=2), Past()
    first, last = noise(40).abs().split(20, dim=-1)
    with past.piece():
        network(first)
    states = list(past._states)
    with past.piece(is_last=True):
        found = network(last)
    assert all(now is before for now, before in zip(past._states, states, strict=True))
    torch.testing.assert_close(found, network(torch.cat([first, last], dim=-1))[..., 20:])
    assert not torch.allclose(found, network(last))  # the state matters


def test_another_thread_does_not_see_the_state():
    past = Past()
    with past.piece():
        keep(torch.ones(1))
    with past.piece(), ThreadPoolExecutor() as pool:
        assert pool.submit(recall).result() is None
        assert recall() is not None
    assert recall() is None


def test_network_that_is_not_causal_works_in_chunks():
    network = BSRNN(features=8, num_blocks=1, causal=False)
    assert not network.carries_state
    trainer = make(network, Acoustics(n_fft=320, win_length=320, hop_length=160))
    noisy = noise(8000)
    assert torch.equal(in_pieces(trainer, noisy), whole(trainer, noisy))


def test_subclass_that_enhances_in_its_own_way_works_in_chunks():
    class Louder(EnhancementTrainer):
        def enhance(self, noisy):
            wave, spectrum = super().enhance(noisy)
            return 2 * wave, spectrum

    own = Louder(Components({"": Running().eval()}, acoustics=ACOUSTICS["centred"]), metrics=[])
    noisy = noise(16000)
    assert torch.equal(in_pieces(own, noisy), whole(own, noisy))
