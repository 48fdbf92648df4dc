"""Speech enhancement: from a noisy waveform to a clean one, by a waveform model or a magnitude model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.audio.stft import Stft
from audiozen_core.binding.signature import signature_of
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.errors import RunError
from audiozen_core.kinds import Mode
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.module_state import unwrapped
from audiozen_core.trainer.part_errors import name_samples, translate_part_errors
from audiozen_plugins.metric.chosen import as_finding
from audiozen_plugins.trainer.batches import enhancement_batch
from audiozen_plugins.trainer.file_by_file import FileByFile

Domain = Literal["waveform", "magnitude"]
LossDomain = Literal["waveform", "magnitude", "features", "both"]


class EnhancementTrainer(FileByFile):
    """Trains and tests a network that removes noise.

    A subclass may override `enhance`, `compare`, `training_step`, `prepare_batch` and the steps of the evaluations; see
    docs/build_on_our_classes.md.

    Batches are dicts with `noisy` and `clean` [batch, time], `id`, and if known `length` in samples and `snr` in dB, as
    the first-party data sets return them. A magnitude model works on the STFT of `[acoustics]`, and the noisy phase is
    kept. If a model has an attribute `out_delay`, its output is late by this number of frames, and the trainer removes
    the delay.

    Args:
        components: the components to work with; passed by AudioZEN.
        domain: input and output of the model: `magnitude` [batch, n_fft // 2 + 1, frames] or `waveform` [batch, time].
            An output may have further axes of size 1.
        add_channel: whether a waveform model takes [batch, 1, time], as `torchaudio.models.ConvTasNet` does.
        loss_domain: what the loss compares: `waveform`, `magnitude`, `features` (magnitudes as [batch, frames,
            features]), or `both` (the two waveforms, then the two magnitudes). The default is the attribute `domain` of
            the loss, or the domain of the model if the loss has no such attribute.

    Raises:
        RunError: the model works on magnitudes, but the STFT of `[acoustics]` can't be inverted.
    """

    def __init__(
        self,
        components: Components,
        *,
        domain: Domain = "magnitude",
        add_channel: bool = False,
        loss_domain: LossDomain | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(components, **kwargs)
        if domain == "magnitude" and (error := _stft_error(self.acoustics)):
            raise error
        self.domain = domain
        self.add_channel = add_channel
        self._rates_read_in: int | None = None
        loss = self.loss_functions.get("")
        self.loss_domain = loss_domain or getattr(loss, "domain", domain)

    @classmethod
    def check_settings(
        cls, args: Mapping[str, Any], *, acoustics: Acoustics, dataset_names: Mapping[Mode, Sequence[str]]
    ) -> Iterator[Diagnostic]:
        """Yields the mistakes that `audiozen check` can find: also an STFT that can't be inverted."""
        yield from super().check_settings(args, acoustics=acoustics, dataset_names=dataset_names)
        signature = signature_of(cls)
        parameter = signature.get("domain") if signature else None
        domain = args.get("domain", parameter.default if parameter else None)
        # Lengths that contradict each other are reported in [acoustics].
        consistent = acoustics.hop_length <= acoustics.win_length <= acoustics.n_fft
        if domain == "magnitude" and consistent and (error := _stft_error(acoustics)):
            place = ("args", "domain") if "domain" in args else ("path",)
            yield as_finding(error, config_codes.NUMBERS_DISAGREE, place)

    # ------------------------------------------------------------------------------- the model

    def enhance(self, noisy: Tensor) -> tuple[Tensor, Tensor | None]:
        """Runs the model.

        Args:
            noisy: waveforms [batch, time].

        Returns:
            Enhanced waveforms [batch, time], and the magnitudes [batch, n_fft // 2 + 1, frames] that they were made
            from. The magnitudes are None for a waveform model.
        """
        if self.domain == "waveform":
            return self._run_model(noisy.unsqueeze(1) if self.add_channel else noisy, noisy.shape), None
        spectrogram = self._spectrogram(noisy)
        noisy_magnitude = spectrogram.abs()
        # A bin of magnitude 0 has no phase. Its `phase` is 0 here, so the bin stays 0 whatever the model outputs.
        phase = spectrogram / noisy_magnitude.clamp_min(torch.finfo(noisy_magnitude.dtype).tiny)
        magnitude = self._run_model(noisy_magnitude, noisy_magnitude.shape)[..., self._delay :]
        return self.istft(magnitude * self._in_time(phase), length=noisy.shape[-1]), magnitude

    @property
    def _delay(self) -> int:
        """The delay of the output of the model, in frames."""
        return int(getattr(unwrapped(self.model), "out_delay", 0))

    def _spectrogram(self, wave: Tensor) -> Tensor:
        """Transforms waveforms [batch, time] to spectrograms, with one more frame for each frame of delay."""
        return self.stft(F.pad(wave, (0, self._delay * self.hop_length)))

    def _in_time(self, frames: Tensor) -> Tensor:
        """Returns the frames [..., frames] of `_spectrogram` that belong to the output without its delay."""
        return frames[..., : frames.shape[-1] - self._delay]

    def _run_model(self, given: Tensor, shape: torch.Size) -> Tensor:
        """Returns the output of the model in float32, in the given shape."""
        remedy = (
            f'{_GIVEN[self.domain]}; `domain` (now "{self.domain}") and `add_channel` in [trainer.args] say what the '
            "model is given"
        )
        with translate_part_errors("the model", given, remedy=remedy):
            output = self.model(given)
        # Many networks keep axes of size 1, such as [batch, 1, time] for one source.
        if (
            isinstance(output, Tensor)
            and not output.is_complex()
            and _without_ones(output.shape) == _without_ones(shape)
        ):
            return output.reshape(shape).float()
        got, remedy = type(output).__name__, "return one enhanced signal for each noisy one"
        remedy += "; a separation model needs `num_sources = 1`"
        wanted = str(list(shape))
        if isinstance(output, Tensor):
            got = str(list(output.shape))
            if output.is_complex():
                got, wanted = f"complex numbers ({output.dtype}) {got}", f"real numbers {wanted}"
                remedy = "return real numbers, such as the magnitude `output.abs()`"
        raise RunError(
            f"the model returns {got} for an input of shape {list(given.shape)}; expected {wanted}", remedy=remedy
        )

    def compare(self, wave: Tensor, magnitude: Tensor | None, clean: Tensor) -> Tensor:
        """Computes the loss of enhanced waveforms [batch, time] (and their magnitudes, if known) against clean ones."""
        if self.loss_domain == "waveform":
            return self._run_loss(wave, clean)
        estimate = self._in_time(self._spectrogram(wave).abs()) if magnitude is None else magnitude
        target = self._in_time(self._spectrogram(clean).abs())
        if self.loss_domain == "both":
            return self._run_loss(wave, clean, estimate, target)
        if self.loss_domain == "features":
            return self._run_loss(estimate.transpose(-1, -2), target.transpose(-1, -2))
        return self._run_loss(estimate, target)

    def _run_loss(self, *inputs: Tensor) -> Tensor:
        remedy = (
            f'`loss_domain` in [trainer.args] (now "{self.loss_domain}") says what the loss is given: `waveform` '
            "[batch, time], `magnitude` [batch, n_fft // 2 + 1, frames], `features` [batch, frames, features]; for a "
            "loss that takes [batch, channels, time], name a function of your own that calls it with `unsqueeze(1)`"
        )
        with translate_part_errors("the loss", *inputs, remedy=remedy):
            loss: Tensor = self.loss_function(*inputs)
        return loss

    # ------------------------------------------------------------------------------- the modes

    def prepare_batch(self, batch: Any, mode: Mode) -> dict[str, Any]:
        """Checks that the batch has the signals that the mode needs, and their sample rates."""
        # A training reads sample rates on a GPU only once per epoch, because the CPU must wait for them.
        wait = mode != "train" or self._rates_read_in != self.progress.epoch
        if mode == "train":
            self._rates_read_in = self.progress.epoch
        return enhancement_batch(batch, mode, sr=self.sr, wait=wait)

    def training_step(self, batch: Any, batch_idx: int) -> Mapping[str, Tensor]:
        """Returns the loss of one batch."""
        wave, magnitude = self.enhance_batch(batch)
        return {"loss": self.compare(wave, magnitude, batch["clean"])}

    def enhance_batch(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Calls `enhance`, and names the samples of the batch in its errors. In an evaluation a batch is one file."""
        with name_samples(batch):
            return self.enhance(batch["noisy"])


_GIVEN = {
    "magnitude": "a magnitude model is given [batch, n_fft // 2 + 1, frames]",
    "waveform": "a waveform model is given [batch, time], or [batch, 1, time] with `add_channel = true`",
}


def _stft_error(acoustics: Acoustics) -> RunError | None:
    """Returns the error for an STFT that can't be inverted; None if it can."""
    if Stft(acoustics).invertible:
        return None
    return RunError(
        f"the STFT in [acoustics] can't be inverted: a {acoustics.window} window of {acoustics.win_length} samples "
        f"every {acoustics.hop_length} samples",
        remedy="let the frames overlap (`hop_length` at most half of `win_length`), or set `window = "
        '"rectangular"` in [acoustics]',
    )


def _without_ones(shape: torch.Size) -> list[int]:
    return [size for size in shape if size != 1]
