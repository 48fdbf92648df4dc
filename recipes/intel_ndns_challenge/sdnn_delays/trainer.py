"""Trains the baseline. The network enhances magnitudes, and the phase stays noisy."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from audiozen.audio import Stft
from audiozen.loss import si_snr
from audiozen.trainer.base_trainer import BaseTrainer, Components


class Trainer(BaseTrainer):
    """Trains with the loss function of the TOML file. The score is the SI-SNR in dB.

    The attribute `domain` of the loss function says what it compares: waveforms (`waveform`), magnitudes (`magnitude`),
    both (`both`), or magnitudes as [batch, frames, features] (`features`).
    """

    def __init__(self, components: Components, **kwargs: Any) -> None:
        super().__init__(components, **kwargs)
        # The published baseline uses this window. With it, the STFT has an inverse even if frames do not overlap.
        transform = Stft(replace(self.acoustics, window="rectangular"))
        self.stft, self.istft = transform.transform, transform.inverse

    def enhance(self, noisy: Tensor) -> tuple[Tensor, Tensor]:
        """Enhances waveforms [batch, time]. Returns waveforms and magnitudes, delayed by `out_delay` frames."""
        spectrogram = self.stft(noisy)
        magnitude = self.model(spectrogram.abs())
        phase = self.delayed(spectrogram / spectrogram.abs().clamp_min(1e-12))
        return self.istft(magnitude * phase, length=noisy.shape[-1]), magnitude

    def delayed(self, signal: Tensor, samples_per_frame: int = 1) -> Tensor:
        """Delays a signal [..., time or frames] by as much as the output of the network."""
        late = getattr(self.model, "out_delay", 0) * samples_per_frame
        return torch.nn.functional.pad(signal, (late, 0))[..., : signal.shape[-1]]

    def loss(self, wave: Tensor, magnitude: Tensor, clean: Tensor) -> Tensor:
        """Computes the loss against the clean waveform, in the domain of the loss function."""
        target = self.delayed(self.stft(clean).abs())
        late = self.delayed(clean, self.hop_length)
        domain = getattr(self.loss_function, "domain", "magnitude")
        arguments = {
            "waveform": (wave, late),
            "magnitude": (magnitude, target),
            "both": (wave, late, magnitude, target),
            "features": (magnitude.transpose(1, 2), target.transpose(1, 2)),
        }[domain]
        return self.loss_function(*arguments)

    def training_step(self, batch: Any, batch_idx: int) -> Mapping[str, Tensor]:
        """Computes the loss of a batch, and its SI-SNR for the log."""
        wave, magnitude = self.enhance(batch["noisy"])
        score = si_snr(wave.detach(), self.delayed(batch["clean"], self.hop_length)).mean()
        return {"loss": self.loss(wave, magnitude, batch["clean"]), "si_snr": score}

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Tensor:
        """Computes the SI-SNR of each clip separately, without padding."""
        scores = []
        for clip in self.each_file(batch):
            wave, _ = self.enhance(clip["noisy"])
            scores.append(si_snr(wave, self.delayed(clip["clean"], self.hop_length)))
        return torch.cat(scores)

    def validation_epoch_end(self, outputs: list[list[Tensor]]) -> float:
        """Computes the mean over all clips."""
        return float(torch.cat([scores for loader in outputs for scores in loader]).mean())

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Computes the SI-SNR of each clip before and after enhancement."""
        noisy = torch.cat([si_snr(clip["noisy"], clip["clean"]) for clip in self.each_file(batch)])
        return noisy, self.validation_step(batch, batch_idx, dataloader_idx)

    def test_epoch_end(self, outputs: list[list[tuple[Tensor, Tensor]]]) -> Mapping[str, float]:
        """Computes the means."""
        noisy, enhanced = (torch.cat(scores).mean().item() for scores in zip(*outputs[0], strict=True))
        return {"si_snr_noisy": noisy, "si_snr": enhanced}
