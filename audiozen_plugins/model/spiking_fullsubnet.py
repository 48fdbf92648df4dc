"""Spiking-FullSubNet, a spiking network for speech enhancement."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiozen_core.binding.ranges import Natural, Positive, Range, out_of_range
from audiozen_plugins.model.gated_spiking import GatedSpikingModel
from audiozen_plugins.model.laplace_norm import cumulative_laplace_norm, offline_laplace_norm
from audiozen_plugins.model.masks import deep_filter

_NORMS = {"offline_laplace_norm": offline_laplace_norm, "cumulative_laplace_norm": cumulative_laplace_norm}


class SpikingFullSubNet(nn.Module):
    """A full-band and sub-band network of gated spiking neurons that enhances complex spectra of noisy speech.

    This is the network of Hao et al., "Towards Ultra-Low-Power Neuromorphic Speech Enhancement with
    Spiking-FullSubNet", 2024, which won the Intel N-DNS Challenge. The published weights (of the challenge's frozen
    phase) load without renaming. The defaults are the configuration of the size S, with 520,920 weights. A full-band
    model processes the lowest frequencies. The other frequencies are divided among sub-band models, and each sub-band
    model cuts its frequencies into *units* of a few neighbouring frequencies. For each unit, it gets the frequencies of
    the unit, some neighbours, and the output of the full-band model, and estimates filters over the current and past
    frames. The highest frequency is not changed.

    With `cumulative_laplace_norm`, the network is causal: frame `t` of the output does not depend on later frames of
    the input. Its algorithmic latency is one STFT window, 32 ms; a new frame comes every 8 ms. The published
    `offline_laplace_norm` needs the whole clip. The published code can't apply its cumulative norm to the input of its
    own sub-band models. Here, the cumulative norm divides by a mean over all frequencies of all units of a sub-band
    model, in the current and all earlier frames. At the last frame, both norms are equal.

    In training mode with `bn`, a batch needs at least two clips. The spiking layers compute in float32 or float64, even
    under autocast. The model declares its domain and its acoustics: the complex STFT of 16 kHz audio with a Hann window
    of 512 samples, every 128 samples, with zeros before and after the clip. The window always has `2 * num_freqs`
    samples, so `[acoustics]` must have this `n_fft` and `win_length`.

    Args:
        fdrc: the power that compresses the magnitudes.
        num_freqs: the number of frequencies that are enhanced: `n_fft // 2`.
        fb_freqs: the number of the lowest frequencies that the full-band model gets. It must divide `num_freqs`,
            because the output of the full-band model is repeated for the higher frequencies.
        fb_hidden_size: the number of neurons in each of the two spiking layers of the full-band model.
        sb_hidden_size: the number of neurons in each of the two spiking layers of a sub-band model.
        freq_cutoffs: the frequencies, in bins, at which a sub-band model ends and the next one begins.
        sb_num_center_freqs: for each sub-band model, the number of frequencies that a unit enhances. It must divide the
            number of frequencies of this sub-band model.
        sb_num_neighbor_freqs: for each sub-band model, the number of neighbouring frequencies that a unit also gets on
            each side.
        sb_df_orders: for each sub-band model, the number of frames in its filters. A filter with one frame is a complex
            mask.
        norm_type: how the inputs of all models are normalised.
        shared_weights: whether the gate and the potential of a neuron have the same weights.
        bn: whether to normalise the potentials over the batch.

    Raises:
        ValueError: an argument is out of range, or the arguments do not fit together.

    Example:
        >>> spectrum = torch.randn(2, 257, 10, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))
        >>> SpikingFullSubNet()(spectrum).shape
        torch.Size([2, 257, 10])
    """

    domain = "spectrum"
    layout = "complex"
    acoustics: Mapping[str, int | str] = MappingProxyType(
        {"sr": 16000, "hop_length": 128, "window": "hann", "pad_mode": "constant"}
    )

    def __init__(
        self,
        fdrc: Annotated[float, Range(above=0, most=1)] = 0.5,
        num_freqs: Positive = 256,
        fb_freqs: Positive = 64,
        fb_hidden_size: Positive = 240,
        sb_hidden_size: Positive = 160,
        freq_cutoffs: Sequence[Positive] = (32, 128),
        sb_num_center_freqs: Sequence[Positive] = (4, 32, 64),
        sb_num_neighbor_freqs: Sequence[Natural] = (15, 15, 15),
        sb_df_orders: Sequence[Positive] = (3, 1, 1),
        norm_type: Literal["offline_laplace_norm", "cumulative_laplace_norm"] = "offline_laplace_norm",
        shared_weights: bool = True,
        bn: bool = True,
    ) -> None:
        super().__init__()
        if wrong := out_of_range(SpikingFullSubNet, locals()):
            raise ValueError(wrong)
        edges = list(itertools.pairwise([0, *freq_cutoffs, num_freqs]))
        per_band = {
            "sb_num_center_freqs": sb_num_center_freqs,
            "sb_num_neighbor_freqs": sb_num_neighbor_freqs,
            "sb_df_orders": sb_df_orders,
        }
        if wrong := _misfit(edges, num_freqs, fb_freqs, per_band):
            raise ValueError(wrong)
        self.acoustics = {**SpikingFullSubNet.acoustics, "n_fft": 2 * num_freqs, "win_length": 2 * num_freqs}
        self.fdrc = fdrc
        self.num_freqs = num_freqs
        self.fb_freqs = fb_freqs
        self.norm = _NORMS[norm_type]
        self.carries_state = norm_type == "cumulative_laplace_norm"
        self.bands = [_Band(*edge, *numbers) for edge, *numbers in zip(edges, *per_band.values(), strict=True)]
        options = {"shared_weights": shared_weights, "bn": bn}
        self.fb_model = GatedSpikingModel(fb_freqs, fb_hidden_size, fb_freqs, **options)
        self.sb_model = _SubBandModels(
            GatedSpikingModel(band.input_size, sb_hidden_size, band.output_size, **options) for band in self.bands
        )

    def forward(self, noisy: Tensor) -> Tensor:
        """Enhances spectra.

        Args:
            noisy: complex noisy spectra [batch, num_freqs + 1, frames].

        Returns:
            Enhanced spectra of the same shape.

        Raises:
            ValueError: the shape is wrong.
        """
        if noisy.ndim != 3 or noisy.shape[1] != self.num_freqs + 1 or not noisy.is_complex():
            raise ValueError(
                f"SpikingFullSubNet needs complex spectra [batch, {self.num_freqs + 1}, frames], but got "
                f"{noisy.dtype} {list(noisy.shape)}; set `num_freqs` to n_fft // 2"
            )
        # In all models, the frames are the first axis: [frames, batch, …].
        magnitude = noisy[:, :-1].abs().pow(self.fdrc).permute(2, 0, 1)
        full = self.fb_model(self.norm(magnitude[..., : self.fb_freqs]))
        full = full.repeat(1, 1, self.num_freqs // self.fb_freqs)
        enhanced = []
        for band, model in zip(self.bands, self.sb_model.sb_models, strict=True):
            units = self.norm(torch.cat([band.units(magnitude), band.own_units(full)], dim=-1))
            coefficients = model(units.flatten(1, 2)).reshape(*units.shape[:3], -1)
            enhanced.append(deep_filter(noisy[:, band.low : band.high], band.coefficients(coefficients)))
        return torch.cat([*enhanced, noisy[:, -1:]], dim=1)


class _SubBandModels(nn.Module):
    """Holds the sub-band models under the names that they have in the published weights."""

    def __init__(self, models: Iterable[nn.Module]) -> None:
        super().__init__()
        self.sb_models = nn.ModuleList(models)


class _Band(NamedTuple):
    """The frequencies of one sub-band model, cut into units."""

    low: int
    high: int
    center: int
    neighbor: int
    order: int

    @property
    def input_size(self) -> int:
        """The number of features of a unit: its frequencies, their neighbours, and the output of the full band."""
        return 2 * self.center + 2 * self.neighbor

    @property
    def output_size(self) -> int:
        """The number of real and imaginary parts of the filters of a unit."""
        return 2 * self.center * self.order

    def units(self, x: Tensor) -> Tensor:
        """Cuts the frequencies of x [frames, batch, frequencies] into units with their neighbours.

        Beyond the lowest and the highest frequency of x, the frequencies are mirrored. Returns
        [frames, batch, units, center + neighbours].
        """
        mirrored = F.pad(x, (self.neighbor, self.neighbor), mode="reflect") if self.neighbor else x
        return mirrored[..., self.low : self.high + 2 * self.neighbor].unfold(
            -1, self.center + 2 * self.neighbor, self.center
        )

    def own_units(self, x: Tensor) -> Tensor:
        """Cuts the frequencies of x [frames, batch, frequencies] into units [frames, batch, units, center]."""
        return x[..., self.low : self.high].reshape(*x.shape[:2], -1, self.center)

    def coefficients(self, output: Tensor) -> Tensor:
        """Converts the output [frames, batch, units, …] of a model to filters [batch, frequencies, frames, order]."""
        real, imag = output.float().reshape(*output.shape[:3], 2, self.center, self.order).unbind(3)
        return torch.complex(real, imag).flatten(2, 3).permute(1, 2, 0, 3)


def _misfit(
    edges: Sequence[tuple[int, int]],
    num_freqs: int,
    fb_freqs: int,
    per_band: Mapping[str, Sequence[int]],
) -> str | None:
    """Returns a message about arguments that do not fit together; None if all fit."""
    if num_freqs % fb_freqs:
        return f"`fb_freqs` is {fb_freqs}, but must divide `num_freqs`, which is {num_freqs}"
    for name, values in per_band.items():
        if len(values) != len(edges):
            return f"`{name}` has {len(values)} values, but `freq_cutoffs` makes {len(edges)} sub-bands"
    for (low, high), center, neighbor in zip(edges, *list(per_band.values())[:2], strict=True):
        if low >= high:
            return f"`freq_cutoffs` must rise, and stay below `num_freqs`, which is {num_freqs}"
        if (high - low) % center:
            return f"`sb_num_center_freqs` has {center}, but must divide {high - low}, the size of this sub-band"
        if neighbor >= num_freqs:
            return f"`sb_num_neighbor_freqs` has {neighbor}, but must be less than `num_freqs`, which is {num_freqs}"
    return None
