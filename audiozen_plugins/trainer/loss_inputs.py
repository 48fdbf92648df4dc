"""The inputs of a loss: enhanced and clean signals, in the domains that the loss names."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from torch import Tensor


class LossInputs:
    """The enhanced and the clean signals of a batch, in all domains. Each domain is computed at its first use.

    Args:
        transform: makes complex spectra [batch, frequencies, frames] from waveforms.
        wave: the enhanced waveforms [batch, time].
        spectrum: the magnitudes or the complex spectra that the waveforms were made from; None if they are not known.
        clean: the clean waveforms [batch, time].
    """

    def __init__(
        self, transform: Callable[[Tensor], Tensor], wave: Tensor, spectrum: Tensor | None, clean: Tensor
    ) -> None:
        self._transform = transform
        self._wave = wave
        self._spectrum = spectrum
        self._clean = clean

    def pair(self, domain: str) -> tuple[Tensor, Tensor]:
        """Returns the estimate and the target in one domain. `both` is not allowed, because it names two domains."""
        if domain == "waveform":
            return self._wave, self._clean
        if domain == "waveform_with_channel":
            return self._wave.unsqueeze(1), self._clean.unsqueeze(1)
        if domain == "spectrum":
            return self._spectra
        if domain == "features":
            return self._magnitudes[0].transpose(-1, -2), self._magnitudes[1].transpose(-1, -2)
        return self._magnitudes

    @cached_property
    def _target(self) -> Tensor:
        return self._transform(self._clean)

    @cached_property
    def _spectra(self) -> tuple[Tensor, Tensor]:
        # If the model estimates magnitudes, the complex spectra are computed from the enhanced waveforms.
        known = self._spectrum is not None and self._spectrum.is_complex()
        return self._spectrum if self._spectrum is not None and known else self._transform(self._wave), self._target

    @cached_property
    def _magnitudes(self) -> tuple[Tensor, Tensor]:
        if self._spectrum is not None and not self._spectrum.is_complex():
            return self._spectrum, self._target.abs()
        return self._spectra[0].abs(), self._target.abs()
