"""Training on noises that are shuffled within a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from audiozen.trainer.base_trainer import BaseTrainer, Components
from torch import Tensor


class RemixTrainer(BaseTrainer):
    """Enhances waveforms with a mask on their magnitudes; in training, each speaker gets the noise of another.

    Batches are dicts with `noisy` and `clean` [batch, time], as the data sets of AudioZEN give them. The shuffling is
    that of Défossez, Synnaeve and Adi, "Real Time Speech Enhancement in the Waveform Domain" (Interspeech 2020).

    Args:
        components: the parts to work with; given by AudioZEN.
        remix: whether to shuffle.
    """

    def __init__(self, components: Components, *, remix: bool = True, **kwargs: Any) -> None:
        super().__init__(components, **kwargs)
        self.remix = remix

    def enhance(self, noisy: Tensor) -> Tensor:
        """Noisy waveforms [batch, time] to enhanced ones; the phase is kept."""
        spectrogram = self.stft(noisy)
        magnitude = spectrogram.abs()
        mask = self.model(magnitude) / magnitude.clamp_min(1e-8)
        return self.istft(spectrogram * mask, length=noisy.shape[-1])

    def training_step(self, batch: Any, batch_idx: int) -> Mapping[str, Tensor]:
        """The loss of a batch, remixed."""
        noisy, clean = batch["noisy"], batch["clean"]
        if self.remix:
            order = torch.randperm(len(noisy), device=noisy.device)
            noisy = clean + (noisy - clean)[order]
        return {"loss": self.loss_function(self.enhance(noisy), clean)}

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Tensor:
        """The signal-to-noise ratio of each clip, in dB."""
        clean = batch["clean"]
        error = self.enhance(batch["noisy"]) - clean
        return 10 * torch.log10(clean.square().sum(-1) / error.square().sum(-1).clamp_min(1e-10))

    def validation_epoch_end(self, outputs: list[list[Tensor]]) -> float:
        """The mean over all clips."""
        return float(torch.cat([scores for loader in outputs for scores in loader]).mean())

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Tensor:
        """The same as in validation."""
        return self.validation_step(batch, batch_idx, dataloader_idx)

    def test_epoch_end(self, outputs: list[list[Tensor]]) -> Mapping[str, float]:
        """The mean over all clips, as `test/snr`."""
        return {"snr": self.validation_epoch_end(outputs)}
