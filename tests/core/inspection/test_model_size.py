"""The size of a model: its weights, and its multiplications per second of audio, against numbers calculated by hand."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from audiozen_core.inspection.model_size import model_size
from tests.cli.conftest import audiozen  # noqa: F401 - a fixture

FRAMES = 62.5  # per second, with the default acoustics


class Magnitudes(nn.Module):
    domain = "magnitude"

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(257, 257)
        self.fixed = nn.Parameter(torch.zeros(3), requires_grad=False)

    def forward(self, x):
        return self.layer(x.transpose(1, 2)).transpose(1, 2)


def test_weights_and_macs_of_a_linear_layer():
    size = model_size(Magnitudes)
    assert (size.weights, size.macs_per_second) == (257 * 257 + 257, round(257 * 257 * FRAMES))
    assert str(size) == "66,306 weights, 4.13 M MACs per second of audio at 16000 Hz with `hop_length = 256`"


@pytest.mark.parametrize(("recurrent", "gates"), [(nn.RNN, 1), (nn.GRU, 3), (nn.LSTM, 4)])
def test_recurrent_layers_are_counted(recurrent, gates):
    class Net(Magnitudes):
        def __init__(self):
            super().__init__()
            self.layer = recurrent(257, 10, num_layers=2, bidirectional=True, batch_first=True)

        def forward(self, x):
            return self.layer(x.transpose(1, 2))[0]

    by_hand = 2 * gates * 10 * ((257 + 10) + (20 + 10)) * FRAMES
    assert model_size(Net).macs_per_second == by_hand


def test_attention_is_counted():
    class Net(Magnitudes):
        acoustics = {"sr": 8000, "n_fft": 62, "win_length": 62, "hop_length": 62}  # noqa: RUF012

        def __init__(self):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(32, 2, dim_feedforward=8, batch_first=True)

    frames = 8000 // 62
    by_hand = frames * (32 * 96 + 32 * 32 + 2 * 32 * 8) + 2 * frames * frames * 32
    # These are the frames that fit into a second, so their number is scaled.
    assert model_size(Net).macs_per_second == round(by_hand * 8000 / (frames * 62))


@pytest.mark.parametrize(
    ("layout", "shape", "dtype"),
    [
        ("complex", (1, 161, 100), torch.complex64),
        ("channels_first", (1, 2, 161, 100), torch.float32),
        ("channels_last", (1, 161, 100, 2), torch.float32),
    ],
)
def test_spectrum_has_the_layout_and_the_acoustics_that_the_model_declares(layout, shape, dtype):
    seen = []

    class Net(nn.Module):
        domain = "spectrum"
        acoustics = {"n_fft": 320, "win_length": 320, "hop_length": 160}  # noqa: RUF012

        def forward(self, x):
            seen.append((tuple(x.shape), x.dtype))
            return x

    Net.layout = layout
    assert model_size(Net).macs_per_second == 0
    assert seen == [(shape, dtype)]


def test_an_object_may_declare_acoustics_that_depend_on_its_arguments():
    class Net(nn.Module):
        domain = "waveform"

        def __init__(self, sr=24000):
            super().__init__()
            self.acoustics = {"sr": sr}

        def forward(self, x):
            return torch.nn.functional.conv1d(x[:, None], torch.ones(1, 1, 5))

    assert (model_size(Net).sr, model_size(Net).macs_per_second) == (24000, 5 * 23996)


def test_waveform_has_one_second():
    class Net(nn.Module):
        domain = "waveform"
        acoustics = {"sr": 8000}  # noqa: RUF012

        def forward(self, x):
            return torch.nn.functional.conv1d(x[:, None], torch.ones(1, 1, 5))

    assert model_size(Net).macs_per_second == 5 * 7996


class Needs(nn.Module):
    def __init__(self, bands: int, width: int, depth: int = 2):
        super().__init__()


class Fails(nn.Module):
    def __init__(self):
        raise OSError("no weights")


class TakesNoMagnitudes(Magnitudes):
    def forward(self, x):
        raise ValueError("three\nlines")


class Undeclared(nn.Linear):
    domain = None

    def __init__(self):
        super().__init__(1, 2)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (Needs, "not known: it needs `bands`, `width`"),
        (Fails, "not known: it can't be built without arguments (OSError: no weights)"),
        (TakesNoMagnitudes, "66,306 weights; MACs not known: ValueError: three"),
        (Undeclared, "4 weights; MACs not known: the model has no attribute `domain`"),
    ],
)
def test_unknown_sizes_are_reported(target, text):
    assert str(model_size(target)) == text


def test_what_is_not_a_module_has_no_size():
    assert model_size(len) is None
    assert model_size(dict) is None


def test_counting_leaves_the_random_generators_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    model_size(Magnitudes)
    assert torch.equal(torch.get_rng_state(), before)


def test_show_tells_the_size(audiozen):  # noqa: F811
    text = audiozen("plugins", "show", "gtcrn").out
    assert "\n  size    23,669 weights, 36.6 M MACs per second of audio at 16000 Hz\n" in text
    (line,) = [line for line in text.splitlines() if line.startswith("  modules ")]
    # These names can be used in patterns such as `match = "encoder.*"`.
    assert sum(int(number.replace(",", "")) for number in re.findall(r"\(([\d,]+)\)", line)) == 23_669
    assert "encoder (" in line
