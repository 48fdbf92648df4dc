"""Losses that compare compressed magnitudes or spectra. The compression gives quiet bins more weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiozen_plugins.loss.precision import in_full_precision

_SHAPE = "[batch, frequencies, frames]"


class CompressedMagnitudeLoss(nn.Module):
    """The mean squared error of compressed magnitudes: `mean((|S|^power - |T|^power)²)`.

    `S` is the estimate, and `T` is the target. Ephrat et al., "Looking to Listen at the Cocktail Party", SIGGRAPH 2018.
    `|S|^power` is computed as `(|S|² + eps)^(power / 2)`, so its gradient is finite even for silence.

    Args:
        power: the exponent of the magnitudes.
        eps: a small number that is added to `|S|²` and `|T|²` in each bin.
    """

    domain = "magnitude"

    def __init__(self, power: float = 0.3, eps: float = 1e-8) -> None:
        super().__init__()
        self.power = power
        self.eps = eps

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Computes the loss of magnitudes [batch, frequencies, frames], a scalar.

        Raises:
            ValueError: the magnitudes differ in shape, or are complex.
        """
        if estimate.is_complex():
            raise ValueError("the loss compares magnitudes, not complex spectra")
        estimate, target = in_full_precision(estimate, target, _SHAPE)
        with torch.autocast(estimate.device.type, enabled=False):
            return nn.functional.mse_loss(self._compressed(estimate), self._compressed(target))

    def _compressed(self, magnitude: Tensor) -> Tensor:
        return (magnitude.square() + self.eps) ** (self.power / 2)


class CompressedSpectrumLoss(nn.Module):
    """A weighted sum of two mean squared errors: of the compressed magnitudes, and of the compressed complex spectra.

    Braun & Tashev, "A consolidated view of loss functions for supervised deep learning-based speech enhancement", TSP
    2021, with means instead of sums. `S` is the estimate, `T` is the target, and `S' = |S|^power · S / |S|` is the
    compressed spectrum. The loss is

        (1 - complex_weight) * mean((|S'| - |T'|)²) + complex_weight * mean(|S' - T'|²)

    `|S|^power` is computed as `(|S|² + eps)^(power / 2)`, and the factor `|S|^power / |S|` in the same way, so that the
    gradient is finite for silence, too.

    Args:
        power: the exponent of the magnitudes.
        complex_weight: the weight of the error of the complex spectra, from 0 to 1.
        eps: a small number that is added to `|S|²` and `|T|²` in each bin.
    """

    domain = "spectrum"

    def __init__(self, power: float = 0.3, complex_weight: float = 0.3, eps: float = 1e-8) -> None:
        super().__init__()
        self.power = power
        self.complex_weight = complex_weight
        self.eps = eps

    def forward(self, estimate: Tensor, target: Tensor) -> Tensor:
        """Computes the loss of complex spectra [batch, frequencies, frames], a scalar.

        Raises:
            ValueError: the spectra differ in shape, or are not complex.
        """
        if not estimate.is_complex():
            raise ValueError("the loss compares complex spectra, not real numbers")
        estimate, target = in_full_precision(estimate, target, _SHAPE)
        with torch.autocast(estimate.device.type, enabled=False):
            magnitude, *parts = self._compressed(estimate)
            wanted_magnitude, *wanted_parts = self._compressed(target)
            of_magnitudes = nn.functional.mse_loss(magnitude, wanted_magnitude)
            of_real, of_imag = map(nn.functional.mse_loss, parts, wanted_parts)
            return (1 - self.complex_weight) * of_magnitudes + self.complex_weight * (of_real + of_imag)

    def _compressed(self, spectrum: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the magnitude, the real and the imaginary part of compressed spectra [...]."""
        # On a CPU, separate parts and a single power are faster than `[..., 2]` and two powers.
        real, imag = spectrum.real.contiguous(), spectrum.imag.contiguous()
        power = real.square() + imag.square() + self.eps
        magnitude = power ** (self.power / 2)
        factor = magnitude * power.rsqrt()
        return magnitude, real * factor, imag * factor
