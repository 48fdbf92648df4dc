"""Chunks: exact for a network without state, a new start for one with a state that drifts, and only for long files."""

import pytest
import torch
from torch import nn

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.audio.chunks import chunk_samples, in_chunks, join_pieces, overlapping_windows
from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.errors import ConfigError, RunError
from audiozen_core.testing.tiny import TinyExperiment
from audiozen_core.trainer.components import Components
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


class Lengths(nn.Module):
    """Returns its input, and keeps the lengths."""

    def __init__(self):
        super().__init__()
        self.lengths = []

    def forward(self, x):
        self.lengths.append(x.shape[-1])
        return x


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
    short = join_pieces(in_chunks(lambda wave: network(wave).detach(), [noisy], chunk=400, overlap=30), 48000)
    assert (short - whole).abs().max() > 1e-3


@pytest.mark.parametrize("sizes", [[1000], [1] * 100, [99, 1], [100, 1], [30, 70, 45, 0, 55]])
def test_windows_and_chunks_do_not_depend_on_the_blocks(sizes):
    wave = noise(sum(sizes))
    found = list(overlapping_windows(wave.split(sizes, dim=-1), 40, 30))
    expected = [wave[:, begin : begin + 40] for begin in range(0, max(1, sum(sizes) - 10), 30)]
    assert [window.samples.tolist() for window in found] == [part.tolist() for part in expected]
    assert [(window.is_first, window.is_last) for window in found] == [
        (place == 0, place == len(found) - 1) for place in range(len(found))
    ]
    pieces = in_chunks(lambda part: torch.stack([part, -part], 1), wave.split(sizes, dim=-1), chunk=40, overlap=12)
    result = join_pieces(pieces, sum(sizes))
    torch.testing.assert_close(result, torch.stack([wave, -wave], 1), rtol=0, atol=1e-7)


def test_files_that_are_longer_than_a_minute_are_enhanced_in_chunks_by_default():
    network = Lengths()
    trainer = make(network, "waveform")
    with torch.no_grad():
        trainer.enhance_file({"noisy": noise(961000), "id": ["a"]})
        trainer.enhance_file({"noisy": noise(960000), "id": ["a"]})
    assert network.lengths == [960000, 97000, 960000]


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
    with pytest.raises(RunError, match="at least twice `overlap_seconds`"):
        make(Fir(), "waveform", chunk_seconds=chunk, overlap_seconds=overlap)


@pytest.mark.parametrize(("chunk", "overlap"), [(None, 31.0), (2.0, 0.0), (2.0, -1.0), (2.0, float("nan"))])
def test_overlap_of_no_length_or_longer_than_half_of_a_default_chunk_is_an_error(chunk, overlap):
    with pytest.raises(RunError, match="`overlap_seconds`"):
        make(Fir(), "waveform", chunk_seconds=chunk, overlap_seconds=overlap)


@pytest.mark.parametrize(
    ("chunk_seconds", "overlap_seconds", "samples"),
    [
        (10, None, (160000, 16128)),  # an overlap of a tenth is 41.7 times three hops
        (10.001, 0.1, (160000, 1536)),
        (10.005, 0.1, (160128, 1536)),
        (0.02, 0.01, (768, 384)),  # never shorter than two overlaps
    ],
)
def test_chunks_and_overlaps_are_rounded_to_the_hop(chunk_seconds, overlap_seconds, samples):
    assert chunk_samples(chunk_seconds, overlap_seconds, sr=16000, hop=128) == samples


SETTINGS = [
    ("overlap_seconds = 31.0", "overlap_seconds", "`chunk_seconds` is 60.0 by default"),
    ("chunk_seconds = 1.5\noverlap_seconds = 0.8", "chunk_seconds", "at least twice `overlap_seconds`, 0.8"),
    ("chunk_seconds = inf", "chunk_seconds", "must be finite"),
    ("chunk_seconds = 0.0", "chunk_seconds", "above 0"),
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


@pytest.mark.parametrize(
    "lines", ["chunk_seconds = 2.0", "overlap_seconds = 0.5", "chunk_seconds = 1\noverlap_seconds = 0.5", ""]
)
def test_check_accepts_chunks_that_fit(tmp_path, lines):
    assert check_config(load_config(write_experiment(tmp_path, lines))).warnings == ()


def write_experiment(folder, lines):
    tiny = TinyExperiment(folder)
    path = tiny.write()
    path.write_text(path.read_text().replace("[trainer.args]\n", f"[trainer.args]\n{lines}\n"))
    return path
