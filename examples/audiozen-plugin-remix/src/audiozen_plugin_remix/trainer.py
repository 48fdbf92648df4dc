"""A trainer that shuffles the noises within a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from audiozen.trainer.base_trainer import BaseTrainer, Components
from torch import Tensor


class RemixTrainer(BaseTrainer):
    """Trains on remixed batches: each speaker gets the noise of another speaker. The model enhances magnitudes.

    Batches are dicts with `noisy` and `clean` [batch, time], as AudioZEN's data sets return them. The method is from
    Défossez, Synnaeve and Adi, "Real Time Speech Enhancement in the Waveform Domain" (Interspeech 2020).

    Args:
        components: the parts of the experiment; AudioZEN passes them.
        remix: whether to shuffle the noises.
    """

    def __init__(self, components: Components, *, remix: bool = True, **kwargs: Any) -> None:
        super().__init__(components, **kwargs)
        self.remix = remix

    def enhance(self, noisy: Tensor) -> Tensor:
        """Maps noisy waveforms [batch, time] to enhanced ones of the same shape; the noisy phase is kept."""
        spectrogram = self.stft(noisy)
        magnitude = spectrogram.abs()
        mask = self.model(magnitude) / magnitude.clamp_min(1e-8)
        return self.istft(spectrogram * mask, length=noisy.shape[-1])

    def training_step(self, batch: Any, batch_idx: int) -> Mapping[str, Tensor]:
        """Returns the loss of a remixed batch."""
        noisy, clean = batch["noisy"], batch["clean"]
        if self.remix:
            # Data sets return mixtures, so the noise is the mixture minus the clean speech.
            order = torch.randperm(len(noisy), device=noisy.device)
            noisy = clean + (noisy - clean)[order]
        return {"loss": self.loss_function(self.enhance(noisy), clean)}

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Tensor:
        """Returns the signal-to-noise ratio of each clip, in dB. Padding does not count."""
        ratios = []
        for clip in self.each_file(batch):
            clean = clip["clean"]
            error = self.enhance(clip["noisy"]) - clean
            ratios.append(10 * torch.log10(clean.square().sum(-1) / error.square().sum(-1).clamp_min(1e-10)))
        return torch.cat(ratios)

    def validation_epoch_end(self, outputs: list[list[Tensor]]) -> float:
        """Returns the mean over all clips."""
        return float(torch.cat([scores for loader in outputs for scores in loader]).mean())

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Tensor:
        """Returns the signal-to-noise ratio of each clip, in dB."""
        return self.validation_step(batch, batch_idx, dataloader_idx)

    def test_epoch_end(self, outputs: list[list[Tensor]]) -> Mapping[str, float]:
        """Returns the mean over all clips, recorded as `test/snr`."""
        return {"snr": self.validation_epoch_end(outputs)}
