"""Speech enhancement: from a noisy waveform to a clean one, by a waveform model or a magnitude model."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from rich.console import Console
from torch import Tensor
from torch.nn import functional as F

from audiozen_core.audio.files import write_audio
from audiozen_core.audio.stft import Stft
from audiozen_core.binding.arguments import build
from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import DataError, MissingExtraError, RunError
from audiozen_core.kinds import Mode
from audiozen_core.registry.paths import resolve
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.module_state import unwrapped
from audiozen_core.trainer.part_errors import translate_part_errors
from audiozen_plugins.metric import Metric
from audiozen_plugins.metric.report import Report
from audiozen_plugins.trainer.batches import enhancement_batch

Domain = Literal["waveform", "magnitude"]
LossDomain = Literal["waveform", "magnitude", "features", "both"]


class EnhancementTrainer(BaseTrainer):
    """Trains and tests a network that removes noise.

    Batches are dicts with `noisy` and `clean` [batch, time], `id`, and if known `length` in samples and `snr` in dB, as
    the first-party data sets return them. A magnitude model works on the STFT of `[acoustics]`, and the noisy phase is
    kept. If a model has an attribute `out_delay`, its output is late by this number of frames, and the trainer removes
    the delay.

    The test prints a table of noisy and enhanced scores, and writes a CSV of every file to `metrics/` and the audio to
    `enhanced/`. Prediction writes `enhanced/<id>.wav`.

    Args:
        components: the components to work with; passed by AudioZEN.
        domain: input and output of the model: `magnitude` [batch, n_fft // 2 + 1, frames] or `waveform` [batch, time].
        add_channel: whether a waveform model takes [batch, 1, time], as `torchaudio.models.ConvTasNet` does; an output
            of that shape is accepted in any case.
        loss_domain: what the loss compares: `waveform`, `magnitude`, `features` (magnitudes as [batch, frames,
            features]), or `both` (the two waveforms, then the two magnitudes). By default the attribute `domain` of the
            loss, otherwise the domain of the model.
        score: the metric whose mean over the validation files is the score.
        metrics: the metrics of the test, as names or as tables with `path` and `args`. A metric whose package is not
            installed is left out, with a warning.
        save_enhanced: whether the test writes audio files.

    Raises:
        RunError: the model works on magnitudes, but the STFT of `[acoustics]` can't be inverted.
        MissingExtraError: the package of `score` is not installed.
    """

    resume_safe: ClassVar = ("metrics", "save_enhanced")

    def __init__(
        self,
        components: Components,
        *,
        domain: Domain = "magnitude",
        add_channel: bool = False,
        loss_domain: LossDomain | None = None,
        score: str = "si_sdr",
        metrics: Sequence[str | Mapping[str, Any] | Metric] = ("si_sdr", "stoi", "pesq"),
        save_enhanced: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(components, **kwargs)
        if domain == "magnitude" and not Stft(self.acoustics).invertible:
            raise RunError(
                f"the STFT in [acoustics] can't be inverted: a {self.acoustics.window} window of {self.win_length} "
                f"samples every {self.hop_length} samples",
                remedy="let the frames overlap (`hop_length` at most half of `win_length`), or set "
                '`window = "rectangular"` in [acoustics]',
            )
        self.domain = domain
        self.add_channel = add_channel
        loss = self.loss_functions.get("")
        self.loss_domain = loss_domain or getattr(loss, "domain", domain)
        self.score = _metric(score)
        self.save_enhanced = save_enhanced
        self.metrics = []
        for spec in metrics:
            try:
                self.metrics.append(_metric(spec))
            except MissingExtraError as error:
                self.log.warning(f"left out of the test: {error.message}", remedy=error.remedy)
        self._report = Report(self.metrics)
        self._written: set[tuple[int, str]] = set()

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
        spectrogram = self.stft(noisy)
        noisy_magnitude = spectrogram.abs()
        magnitude = self._run_model(noisy_magnitude, noisy_magnitude.shape)
        if delay := int(getattr(unwrapped(self.model), "out_delay", 0)):
            magnitude = F.pad(magnitude, (-delay, delay))
        # A bin of magnitude 0 has no phase. Its `phase` is 0 here, so the bin stays 0 whatever the model outputs.
        phase = spectrogram / noisy_magnitude.clamp_min(torch.finfo(noisy_magnitude.dtype).tiny)
        return self.istft(magnitude * phase, length=noisy.shape[-1]), magnitude

    def _run_model(self, given: Tensor, shape: torch.Size) -> Tensor:
        """Returns the output of the model in float32, in the given shape."""
        remedy = (
            f'{_GIVEN[self.domain]}; `domain` (now "{self.domain}") and `add_channel` in [trainer.args] say what the '
            "model is given"
        )
        with translate_part_errors("the model", given, remedy=remedy):
            output = self.model(given)
        if isinstance(output, Tensor) and not output.is_complex() and output.numel() == shape.numel():
            # A separation model with one source returns [batch, 1, time].
            squeezed = output.squeeze(1) if output.ndim == len(shape) + 1 else output
            if squeezed.shape == shape:
                return squeezed.float()
        got = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise RunError(
            f"the model returns {got} for an input of shape {list(given.shape)}; expected {list(shape)}",
            remedy="return one enhanced signal for each noisy one; a separation model needs `num_sources = 1`",
        )

    def compare(self, wave: Tensor, magnitude: Tensor | None, clean: Tensor) -> Tensor:
        """Computes the loss of enhanced waveforms [batch, time] (and their magnitudes, if known) against clean ones."""
        if self.loss_domain == "waveform":
            return self._run_loss(wave, clean)
        estimate = self.stft(wave).abs() if magnitude is None else magnitude
        target = self.stft(clean).abs()
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
        """Checks that the batch has what the mode needs; see `enhancement_batch`."""
        return enhancement_batch(batch, mode, sr=self.sr)

    def training_step(self, batch: Any, batch_idx: int) -> Mapping[str, Tensor]:
        """Returns the loss of one batch."""
        wave, magnitude = self._enhance(batch)
        return {"loss": self.compare(wave, magnitude, batch["clean"])}

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> dict[str, Any]:
        """Returns the score of each file, and the loss if there is a loss function."""
        wave, magnitude = self._enhance(batch)
        scores = [self.score(*pair, sr=self.sr) for pair in _pairs(wave, batch)]
        if not self.loss_functions:
            return {"scores": scores}
        return {"scores": scores, "loss": self.compare(wave, magnitude, batch["clean"])}

    def validation_epoch_end(self, outputs: list[list[Any]]) -> Mapping[str, float]:
        """Returns the mean score over all files, and the mean loss."""
        batches = [batch for loader in outputs for batch in loader]
        scores = torch.tensor([score for batch in batches for score in batch["scores"]], dtype=torch.float64)
        result = {"score": float(scores.nanmean()), self.score.name: float(scores.nanmean())}
        if losses := [batch["loss"] for batch in batches if "loss" in batch]:
            result["loss"] = float(torch.stack(losses).mean())
        return result

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        """Measures each file before and after enhancement, and writes its audio."""
        wave, _ = self._enhance(batch)
        noisy = [signal for signal, _ in _pairs(batch["noisy"], batch)]
        for index, (enhanced, clean) in enumerate(_pairs(wave, batch)):
            name = batch["id"][index]
            self._report.add(
                name if dataloader_idx == 0 else f"{dataloader_idx + 1}/{name}",
                snr=float(batch["snr"][index]) if "snr" in batch else None,
                noisy={metric.name: metric(noisy[index], clean, sr=self.sr) for metric in self.metrics},
                enhanced={metric.name: metric(enhanced, clean, sr=self.sr) for metric in self.metrics},
            )
            if self.save_enhanced:
                folder = self._results("test", dataloader_idx, name)
                for kind, signal in (("noisy", noisy[index]), ("enhanced", enhanced), ("clean", clean)):
                    write_audio(_inside(folder, f"{name}_{kind}.wav"), signal, self.sr)

    def test_epoch_end(self, outputs: list[list[Any]]) -> Mapping[str, float]:
        """Prints the table and writes the CSV."""
        report, self._report = self._report, Report(self.metrics)
        self._written.clear()
        path = report.write_csv(self.folder / "metrics" / "test.csv")
        report.write_json(self.folder / "metrics" / "test.json")
        # Standard output may be closed (for example by `| head`). The results are also in the files.
        with contextlib.suppress(OSError):
            Console().print(report.table(f"{self.experiment}: noisy and enhanced"))
        self.log.info("tested", files=len(report), csv=str(path))
        return report.summary()

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        """Writes the enhanced files."""
        wave, _ = self._enhance(batch)
        lengths = batch["length"].tolist() if "length" in batch else [wave.shape[-1]] * len(wave)
        for name, signal, length in zip(batch["id"], wave.cpu(), lengths, strict=True):
            folder = self._results("predict", dataloader_idx, name)
            write_audio(_inside(folder, f"{name}.wav"), signal[:length], self.sr)

    def predict(self, loaders: Sequence[BatchLoader]) -> None:
        """Runs `predict_step` over all batches, and logs where the files are."""
        self._written.clear()
        super().predict(loaders)
        self.log.info("predicted", files=len(self._written), folder=str(self.folder / "enhanced"))

    def _enhance(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor | None]:
        """Calls `enhance`, and adds the samples to its errors."""
        try:
            return self.enhance(batch["noisy"])
        except RunError as error:
            samples = ", ".join(map(str, batch.get("id", ())))
            raise RunError(
                error.message, remedy=error.remedy, notes=(*error.notes, f"samples: {samples}")
            ) from error.__cause__

    def _results(self, mode: str, dataloader_idx: int, name: str) -> Path:
        """Returns the folder for the audio of a sample. Files are named after IDs, so each ID can be used once."""
        if (dataloader_idx, name) in self._written:
            raise DataError(f"two samples have the ID `{name}`", remedy="rename one: both would write the same file")
        self._written.add((dataloader_idx, name))
        return self.folder / "enhanced" / (f"{mode}_{dataloader_idx + 1}" if dataloader_idx else "")


_GIVEN = {
    "magnitude": "a magnitude model is given [batch, n_fft // 2 + 1, frames]",
    "waveform": "a waveform model is given [batch, time], or [batch, 1, time] with `add_channel = true`",
}


def _metric(spec: str | Mapping[str, Any] | Metric) -> Metric:
    """Returns the metric for a name or table. Tables in the TOML file have already been built."""
    if isinstance(spec, str):
        spec = {"path": spec}
    metric: Any = spec
    if isinstance(spec, Mapping):
        metric = build(resolve(spec["path"], section="metric").target, spec.get("args", {}))
    if not callable(metric) or not all(hasattr(metric, name) for name in ("name", "label", "unit")):
        raise RunError(f"`{spec}` is not a metric", remedy="`audiozen plugins` lists those that are installed")
    found: Metric = metric
    return found


def _pairs(wave: Tensor, batch: Mapping[str, Any]) -> list[tuple[Tensor, Tensor]]:
    """Returns the signal and the clean signal of each file, both [time], on the CPU and without padding."""
    lengths = batch["length"].tolist() if "length" in batch else [wave.shape[-1]] * len(wave)
    signals = zip(wave.float().cpu(), batch["clean"].cpu(), lengths, strict=True)
    return [(signal[:length], clean[:length]) for signal, clean, length in signals]


def _inside(folder: Path, name: str) -> Path:
    """Returns the path of a file. Raises DataError if the path is outside the folder."""
    path = folder / name
    if not path.resolve().is_relative_to(folder.resolve()):
        raise DataError(
            f"the sample ID `{name}` leads out of {folder}", remedy="remove `..` and a leading `/` from the ID"
        )
    return path
