"""BSRNN: a recurrent network over the frames of each sub-band and over the sub-bands of each frame."""

from __future__ import annotations

import itertools
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audiozen_core.binding.ranges import Positive, Range, check_ranges
from audiozen_plugins.model.masks import apply_complex_mask
from audiozen_plugins.model.past import keep, recall

# The frequencies are 50 Hz apart. The first sub-band also has the frequency 0.
_SPACING = 50
_WIDTHS_IN_HERTZ = [200] * 20 + [500] * 6 + [2000] * 7 + [3000]
_WIDTHS = [width // _SPACING + (index == 0) for index, width in enumerate(_WIDTHS_IN_HERTZ)]
_ENDS = list(itertools.accumulate(_WIDTHS))


class BSRNN(nn.Module):
    """A band-split RNN that enhances complex spectra of noisy speech at any sampling rate from 8 to 48 kHz.

    Luo and Yu, "Music Source Separation with Band-Split RNN", TASLP 2023, and Yu and Luo, "Efficient Monaural Speech
    Enhancement with Universal Sample Rate Band-Split RNN", ICASSP 2023. The spectrum is split into sub-bands, and each
    sub-band is mapped to `features` channels. Each block has an LSTM over the frames of each sub-band, and a
    bidirectional LSTM over the sub-bands of each frame. For each sub-band, two small networks estimate a complex mask
    and a residual that is added to the masked spectrum.

    One set of weights works at all rates. The window always lasts 20 ms, so the frequencies are always 50 Hz apart. A
    spectrum at a low rate has fewer frequencies and uses only the lowest sub-bands. The output is then the same as from
    a network without the other sub-bands. A spectrum at 48 kHz uses all 34 sub-bands: 20 of 200 Hz, 6 of 500 Hz, 7 of 2
    kHz and 1 of 3 kHz. If only a part of the highest sub-band is used, zeros fill the rest. The weights of unused
    sub-bands get no gradient, so training at a low rate does not change them.

    With the following sizes, the network has as many weights as the models in Zhang et al., "Beyond Performance
    Plateaus: A Comprehensive Study on Scalability in Speech Enhancement", 2024:

    | `features` | `num_blocks` | weights, causal | weights, not causal |
    | --- | --- | --- | --- |
    | 16 | 6 | 0.5 M | 0.5 M |
    | 32 | 6 | 1.3 M | 1.5 M |
    | 64 | 6 | 4.1 M | 4.8 M |
    | 128 | 6 | 14.3 M | 16.9 M |
    | 256 | 6 | 52.9 M | 63.1 M |
    | 256 | 12 | 83.6 M | 104.1 M |

    With the defaults, the network needs 3.9 G MACs for a second of audio at 8 kHz, 5.3 G at 16 kHz and 6.7 G at 48 kHz.

    If `causal` is True, frame `t` of the output does not depend on later frames of the input, and the algorithmic
    latency is one window, 20 ms. If `causal` is False, the LSTM over frames is bidirectional, normalisations are over
    the whole file, and whole files are enhanced. In both cases, the residual is relative to the level of its sub-band,
    so the output scales with the input. This matters because the level of the STFT depends on the sampling rate.

    The model declares its domain and, for its `sr`, the STFT: `sr`, `n_fft` (`sr / 50`), `win_length` and `hop_length`
    (10 ms). The file must have the same values in `[acoustics]`.

    Args:
        features: the channels of each sub-band.
        num_blocks: the number of blocks.
        causal: whether the output must not depend on later input.
        sr: the sampling rate in hertz. It changes the STFT that the model declares, but no weight.

    Raises:
        RunError: an argument is out of range.

    Example:
        >>> network = BSRNN(features=4, num_blocks=1, sr=8000)
        >>> network.acoustics
        {'sr': 8000, 'n_fft': 160, 'win_length': 160, 'hop_length': 80}
        >>> network(torch.randn(2, 81, 10, 2)).shape, network(torch.randn(2, 481, 10, 2)).shape
        (torch.Size([2, 81, 10, 2]), torch.Size([2, 481, 10, 2]))
    """

    domain = "spectrum"
    layout = "channels_last"

    def __init__(
        self,
        features: Positive = 64,
        num_blocks: Positive = 6,
        *,
        causal: bool = True,
        sr: Annotated[int, Range(least=8000, most=48000)] = 16000,
    ) -> None:
        super().__init__()
        check_ranges(BSRNN, locals())
        # `n_fft` is `sr / 50`, rounded to an even number. If it is rounded, the frequencies are almost 50 Hz apart.
        hop = round(sr / (2 * _SPACING))
        self.acoustics = {"sr": sr, "n_fft": 2 * hop, "win_length": 2 * hop, "hop_length": hop}
        self.causal = causal
        self.carries_state = causal
        self.encoders = nn.ModuleList(
            nn.Sequential(_Norm(2 * width, per_step=causal), nn.Linear(2 * width, features)) for width in _WIDTHS
        )
        self.blocks = nn.Sequential(*(_Block(features, causal=causal) for _ in range(num_blocks)))
        self.masks = nn.ModuleList(_decoder(features, width, causal=causal) for width in _WIDTHS)
        self.residuals = nn.ModuleList(_decoder(features, width, causal=causal) for width in _WIDTHS)

    def forward(self, noisy: Tensor) -> Tensor:
        """Enhances spectra.

        Args:
            noisy: noisy spectra [batch, frequencies, frames, 2], real and imaginary part. The frequencies are 50 Hz
                apart: 81 for 8 kHz, 161 for 16 kHz, 481 for 48 kHz.

        Returns:
            Enhanced spectra of the same shape.

        Raises:
            ValueError: the shape is wrong.
        """
        if noisy.ndim != 4 or noisy.shape[1] > _ENDS[-1] or noisy.shape[3] != 2:
            raise ValueError(
                f"BSRNN needs spectra [batch, frequencies, frames, 2] with at most {_ENDS[-1]} frequencies, but got "
                f"{list(noisy.shape)}; set `n_fft` to sr / {_SPACING}"
            )
        num_freqs = noisy.shape[1]
        num_bands = next(index for index, end in enumerate(_ENDS, 1) if end >= num_freqs)
        # Real and imaginary parts of all frequencies of a frame, [batch, frames, 2 × frequencies].
        flat = F.pad(noisy.transpose(1, 2).flatten(2), (0, 2 * (_ENDS[num_bands - 1] - num_freqs)))
        bands = torch.split(flat, [2 * width for width in _WIDTHS[:num_bands]], dim=-1)
        # The small constant keeps the gradient of the square root finite.
        axes = (2,) if self.causal else (1, 2)
        levels = [(band.square().mean(axes, keepdim=True) + 1e-12).sqrt() for band in bands]
        encoded = [encoder(band / level) for encoder, band, level in zip(self.encoders, bands, levels, strict=False)]
        hidden = self.blocks(torch.stack(encoded, dim=2)).unbind(2)
        mask = torch.cat([decoder(x) for decoder, x in zip(self.masks, hidden, strict=False)], dim=-1)
        residual = torch.cat(
            [decoder(x) * level for decoder, x, level in zip(self.residuals, hidden, levels, strict=False)], dim=-1
        )
        return apply_complex_mask(_spectrum(mask, num_freqs), noisy) + _spectrum(residual, num_freqs)


def _spectrum(flat: Tensor, num_freqs: int) -> Tensor:
    """Maps [batch, frames, 2 × frequencies] to the lowest frequencies, [batch, num_freqs, frames, 2]."""
    batch, frames = flat.shape[:2]
    return flat.reshape(batch, frames, -1, 2)[:, :, :num_freqs].transpose(1, 2)


class _Norm(nn.LayerNorm):
    """Normalises [batch, steps, features] over all steps and features, or over the features of each step."""

    def __init__(self, features: int, *, per_step: bool) -> None:
        super().__init__(features)
        self.per_step = per_step

    def forward(self, x: Tensor) -> Tensor:
        if self.per_step:
            return super().forward(x)
        return F.group_norm(x.transpose(1, 2), 1, self.weight, self.bias, self.eps).transpose(1, 2)


class _Path(nn.Module):
    """An LSTM along the steps of [batch, steps, features], with a norm before and a residual connection around it."""

    def __init__(self, features: int, *, per_step: bool, bidirectional: bool) -> None:
        super().__init__()
        self.norm = _Norm(features, per_step=per_step)
        self.lstm = nn.LSTM(features, 2 * features, batch_first=True, bidirectional=bidirectional)
        self.linear = nn.Linear(4 * features if bidirectional else 2 * features, features)

    def forward(self, x: Tensor) -> Tensor:
        past = None if self.lstm.bidirectional else recall()
        output, state = self.lstm(self.norm(x), past)
        if not self.lstm.bidirectional:
            keep(state)
        result: Tensor = x + self.linear(output)
        return result


class _Block(nn.Module):
    """Runs over the frames of each sub-band, then over the sub-bands of each frame."""

    def __init__(self, features: int, *, causal: bool) -> None:
        super().__init__()
        self.over_frames = _Path(features, per_step=causal, bidirectional=not causal)
        self.over_bands = _Path(features, per_step=False, bidirectional=True)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, frames, bands, features] to the same shape."""
        batch, frames = x.shape[:2]
        x = self.over_frames(x.transpose(1, 2).flatten(0, 1)).unflatten(0, (batch, -1)).transpose(1, 2)
        output: Tensor = self.over_bands(x.flatten(0, 1)).unflatten(0, (batch, frames))
        return output


def _decoder(features: int, width: int, *, causal: bool) -> nn.Sequential:
    """Returns a network that maps the features of a sub-band to a complex number for each of its frequencies."""
    return nn.Sequential(
        _Norm(features, per_step=causal),
        nn.Linear(features, 4 * features),
        nn.Tanh(),
        nn.Linear(4 * features, 4 * width),
        nn.GLU(dim=-1),
    )
