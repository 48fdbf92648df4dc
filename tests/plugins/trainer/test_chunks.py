"""Chunks: exact for a network without state, a new start for one with a state that drifts, and only for long files."""

import pytest
import torch
from torch import nn

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.errors import ConfigError, RunError
from audiozen_core.testing.tiny import TinyExperiment
from audiozen_core.trainer.components import Components
from audiozen_plugins.trainer.chunks import chunk_samples, enhance_in_chunks
from audiozen_plugins.trainer.enhancement import EnhancementTrainer


def noise(length, seed=0):
    return 0.1 * torch.randn(1, length, generator=torch.Generator().manual_seed(seed))


class Fir(nn.Module):
    """A filter that sees 40 samples to each side."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.filter = nn.Conv1d(1, 1, 81, padding="same", bias=False)
        self.lengths = []

    def forward(self, x):
        self.lengths.append(x.shape[-1])
        return self.filter(x.unsqueeze(1)).squeeze(1)


class Gate(nn.Module):
    """Works on each magnitude alone."""

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.tensor(0.3))

    def forward(self, x):
        return x * torch.sigmoid(x - self.level)


class Mask(nn.Module):
    """Multiplies each complex bin by a gain that depends on its neighbours, as a complex mask does."""

    layout = "channels_first"

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Conv2d(2, 2, 3, padding=1)

    def forward(self, x):
        return x * torch.sigmoid(self.net(x))


class Drifts(nn.Module):
    """Adds an offset that grows with each sample since the start, as the rounding of a sigma-delta network does."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(1e-5))

    def forward(self, x):
        return x + self.slope * torch.arange(x.shape[-1])


def make(model, domain, *, center=True, **args):
    acoustics = Acoustics(n_fft=256, win_length=256, hop_length=128, center=center)
    return EnhancementTrainer(Components({"": model}, acoustics=acoustics), domain=domain, metrics=[], **args)


def enhance(trainer, noisy):
    with torch.no_grad():
        return trainer.enhance_file({"noisy": noisy, "id": ["a"]})[0]


@pytest.mark.parametrize("length", [16000, 16001, 20000, 31999, 48127, 80000])
@pytest.mark.parametrize(("model", "domain"), [(Fir, "waveform"), (Gate, "magnitude"), (nn.Identity, "magnitude"),
                                              (nn.Identity, "spectrum"), (Mask, "spectrum")])  # fmt: skip
def test_chunks_are_exact_for_a_network_without_state(length, model, domain):
    """To 1e-6, a twentieth of a step of 16 bits."""
    torch.manual_seed(0)
    network, noisy = model(), noise(length)
    whole = enhance(make(network, domain), noisy)
    chunks = enhance(make(network, domain, chunk_seconds=1.0, overlap_seconds=0.3), noisy)
    assert chunks.shape == whole.shape
    assert (chunks - whole).abs().max() < 1e-6


@pytest.mark.parametrize("compression", [None, 0.3, "log1p"])
def test_chunks_are_exact_without_center_and_with_compression(compression):
    network, noisy = Mask(), noise(31999)
    options = {"center": False, "compression": compression}
    whole = enhance(make(network, "spectrum", **options), noisy)
    chunks = enhance(make(network, "spectrum", chunk_seconds=1.0, overlap_seconds=0.3, **options), noisy)
    assert (chunks - whole).abs().max() < 1e-6
    assert (whole - noisy).abs().max() > 1e-2


def test_network_that_sees_further_than_the_overlap_is_not_exact():
    """Negative control: the test above sees a difference where there is one."""
    network, noisy = Fir(), noise(48000)
    whole = enhance(make(network, "waveform"), noisy)
    chunks = enhance(make(network, "waveform", chunk_seconds=1.0, overlap_seconds=0.005), noisy)
    assert (chunks - whole).abs().max() < 1e-6
    short = enhance_in_chunks(lambda wave: network(wave).detach(), noisy, chunk=400, overlap=30)
    assert (short - whole).abs().max() > 1e-3


def test_each_chunk_starts_anew():
    network, noisy = Drifts(), noise(80000)
    assert (enhance(make(network, "waveform"), noisy) - noisy).max() > 0.75
    assert (enhance(make(network, "waveform", chunk_seconds=1.0, overlap_seconds=0.3), noisy) - noisy).max() < 0.17


def test_short_files_and_training_are_not_cut():
    network = Fir()
    trainer = make(network, "waveform", chunk_seconds=1.0, overlap_seconds=0.3)
    enhance(trainer, noise(15000))
    trainer.enhance_batch({"noisy": noise(64000)})
    assert network.lengths == [15000, 64000]
    enhance(trainer, noise(64000))
    assert len(network.lengths) > 5
    assert max(network.lengths[2:]) == 16000


def test_no_chunk_is_too_short_to_transform():
    for extra in range(0, 5000, 311):
        enhance(make(Gate(), "magnitude", chunk_seconds=0.5, overlap_seconds=0.1), noise(8000 + extra))


@pytest.mark.parametrize(("chunk", "overlap"), [(1.0, 0.6), (0.0, 0.1), (float("inf"), 1.0)])
def test_chunk_that_is_too_short_for_its_overlaps_is_an_error(chunk, overlap):
    with pytest.raises(RunError, match="must be at least twice `overlap_seconds`"):
        make(Fir(), "waveform", chunk_seconds=chunk, overlap_seconds=overlap)


@pytest.mark.parametrize(("chunk", "overlap"), [(None, 0.5), (2.0, 0.0), (2.0, -1.0), (2.0, float("nan"))])
def test_overlap_without_chunks_or_of_no_length_is_an_error(chunk, overlap):
    with pytest.raises(RunError, match="`overlap_seconds`"):
        make(Fir(), "waveform", chunk_seconds=chunk, overlap_seconds=overlap)


@pytest.mark.parametrize(
    ("chunk_seconds", "overlap_seconds", "samples"),
    [
        (10, None, (160000, 16128)),  # an overlap of one second is 41.7 times three hops
        (10.001, 0.1, (160000, 1536)),
        (10.005, 0.1, (160128, 1536)),
        (0.02, 0.01, (768, 384)),  # never shorter than two overlaps
    ],
)
def test_chunks_and_overlaps_are_rounded_to_the_hop(chunk_seconds, overlap_seconds, samples):
    assert chunk_samples(chunk_seconds, overlap_seconds, sr=16000, hop=128) == samples


SETTINGS = [
    ("overlap_seconds = 0.5", "overlap_seconds", "has no effect without `chunk_seconds`"),
    ("chunk_seconds = 1.5", "chunk_seconds", "at least twice `overlap_seconds`, 1.0 by default"),
    ("chunk_seconds = 1.5\noverlap_seconds = 0.8", "chunk_seconds", "at least twice `overlap_seconds`, 0.8"),
    ("chunk_seconds = inf", "chunk_seconds", "and finite"),
    ("chunk_seconds = 1.5\noverlap_seconds = 0.0", "overlap_seconds", "must be above 0"),
]


@pytest.mark.parametrize(("lines", "argument", "message"), SETTINGS)
def test_check_finds_wrong_chunks_at_the_argument(tmp_path, lines, argument, message):
    path = write_experiment(tmp_path, lines)
    with pytest.raises(ConfigError) as caught:
        check_config(load_config(path))
    (finding,) = caught.value.diagnostics
    assert (finding.code, message in finding.message) == ("AZ106", True)
    assert path.read_text().splitlines()[finding.span.line - 1].startswith(argument)


@pytest.mark.parametrize("lines", ["chunk_seconds = 2.0", "chunk_seconds = 1\noverlap_seconds = 0.5", ""])
def test_check_accepts_chunks_that_fit(tmp_path, lines):
    assert check_config(load_config(write_experiment(tmp_path, lines))).warnings == ()


def write_experiment(folder, lines):
    tiny = TinyExperiment(folder)
    path = tiny.write()
    path.write_text(path.read_text().replace("[trainer.args]\n", f"[trainer.args]\n{lines}\n"))
    return path
