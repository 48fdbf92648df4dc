"""A trainer that separates the sources of a mixture."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import torch
from audiozen.audio import Acoustics, write_audio
from audiozen.errors import DataError, Diagnostic, RunError
from audiozen.hooks import Mode
from audiozen.metric import Metric, MetricSpec, RatedFile, Rater, Report, build_metrics, check_metrics
from audiozen.trainer import BaseTrainer, Components
from rich.console import Console
from torch import Tensor

from audiozen_plugin_separation.metric import Pit, in_pit

# `pad_collate` adds `source_1_length`, which is not a signal.
_SOURCE = re.compile(r"source_\d+")

# The signals that reports compare for each file, with their headings in a table.
_STATES = {"mixture": "mixture", "separated": "sep."}

# The metrics of a test, unless the file names others.
_METRICS = ("si_sdr",)


class Validated(NamedTuple):
    """The values and the loss of one validation file."""

    row: RatedFile
    loss: Tensor


class SeparationTrainer(BaseTrainer):
    """Trains a network that separates mixtures [batch, time] into sources [batch, sources, time], and tests it.

    The loss function gets the estimates and the sources, both [batch, sources, time], and must not depend on their
    order: see `sources_si_snr`. Batches are dicts with `noisy` (the mixtures), `source_1`, `source_2`, … [batch, time] and
    `id`, as `two_speakers` returns them. Prediction needs only `noisy` and `id`, as `audio_folder` returns them.

    Validation, test and prediction separate each file individually and without padding. The score is the mean SI-SDR of
    the sources, in the best order. The test prints a table with the metrics of the mixtures and of the estimates. It
    writes `scores.csv`, `scores.json` and the folder `audio`, which has `ID_mixture.wav` for each mixture, and the
    estimates `ID_1.wav`, `ID_2.wav`, … in the order of the sources. Prediction writes `ID_1.wav`, `ID_2.wav`, … in the
    order of the network. The files are float32, so that nothing is clipped: SI-SDR does not determine the level of an
    estimate.

    Args:
        components: the parts of the experiment; AudioZEN passes them.
        metrics: the metrics of the test, as names or as tables. A metric of one signal is wrapped in `pit`. A metric is
            left out with a warning if its package is not installed or it does not support the sample rate.
        save_audio: whether the test writes audio files.
    """

    resume_safe: ClassVar = ("metrics", "save_audio")

    def __init__(
        self,
        components: Components,
        *,
        metrics: Sequence[MetricSpec] = _METRICS,
        save_audio: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(components, **kwargs)
        self.metrics, left_out = build_metrics(metrics, self.sr, states=_STATES, wrap=in_pit)
        for reason in left_out:
            self.log.warning(f"left out of the test: {reason.message}", remedy=reason.remedy)
        self.save_audio = save_audio
        self.score = Pit("si_sdr")
        self._validation_rater = Rater([self.score], self.sr, reference="sources")
        self._test_rater = Rater(self.metrics, self.sr, reference="sources")

    @classmethod
    def check_settings(
        cls, args: Mapping[str, Any], *, acoustics: Acoustics, dataset_names: Mapping[Mode, Sequence[str]]
    ) -> Iterator[Diagnostic]:
        """Yields an error or a warning for each metric that can't be used. `audiozen check` calls this method."""
        metrics = args.get("metrics", _METRICS)
        yield from check_metrics(metrics, "metrics", sr=acoustics.sr, states=_STATES, wrap=in_pit)

    def separate(self, mixtures: Tensor) -> Tensor:
        """Separates mixtures [batch, time] into sources [batch, sources, time].

        Raises:
            RunError: the output of the network has another shape.
        """
        estimates: Tensor = self.model(mixtures)
        batch, time = mixtures.shape
        if estimates.ndim != 3 or (len(estimates), estimates.shape[-1]) != (batch, time):
            raise RunError(
                f"the network returns {list(estimates.shape)} for mixtures {list(mixtures.shape)}",
                remedy=f"let it return [{batch}, sources, {time}]",
            )
        return estimates

    def prepare_batch(self, batch: Any, mode: Mode) -> dict[str, Any]:
        """Joins `source_1`, `source_2`, … to `sources` [batch, sources, time]."""
        if not isinstance(batch, Mapping) or "noisy" not in batch or "id" not in batch:
            raise DataError("a batch has no `noisy` or no `id`", remedy="use a data set such as `two_speakers`")
        names = sorted((name for name in batch if _SOURCE.fullmatch(name)), key=lambda name: (len(name), name))
        if not names and mode != "predict":
            raise DataError("a batch has no `source_1`", remedy="use a data set such as `two_speakers`")
        others = {name: value for name, value in batch.items() if name not in names}
        return others | ({"sources": torch.stack([batch[name] for name in names], 1)} if names else {})

    def training_step(self, batch: Any, batch_idx: int) -> Mapping[str, Tensor]:
        """Returns the loss of a batch."""
        return {"loss": self.loss_function(self.separate(batch["noisy"]), batch["sources"])}

    # ------------------------------------------------------------------------------- validation

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> list[Validated]:
        """Returns the values and the loss of each file."""
        validated = []
        for file in self.each_file(batch):
            estimates = self.separate(file["noisy"])
            loss = self.loss_function(estimates, file["sources"])
            mixture, sources, ordered = self._signals(file, estimates)
            self._show(mixture, ordered, sources)
            validated.append(Validated(self._row(self._validation_rater, file, mixture, sources, ordered), loss))
        return validated

    def validation_epoch_end(self, outputs: list[list[list[Validated]]]) -> Mapping[str, float]:
        """Returns the score: the mean SI-SDR over all files. Also returns the improvement and the mean loss."""
        files = [file for loader in outputs for batch in loader for file in batch]
        report = _report([self.score], [file.row for file in files])
        summary = report.summary()
        faults = (*report.faulty_outputs(), *report.faulty_pairs())
        for line in faults:
            self.log.warning(f"validation: {line}")
        self.why_no_score = "; ".join(faults)
        return {
            "score": summary[self.score.name],
            "si_sdr_improvement": summary[f"{self.score.name}_gain"],
            "loss": float(torch.stack([file.loss for file in files]).mean()),
        }

    # ------------------------------------------------------------------------------- test and prediction

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> list[RatedFile]:
        """Measures each file, and writes its audio."""
        rows = []
        for file in self.each_file(batch):
            mixture, sources, ordered = self._signals(file, self.separate(file["noisy"]))
            self._show(mixture, ordered, sources)
            rows.append(self._row(self._test_rater, file, mixture, sources, ordered))
            if self.save_audio:
                name = f"audio/{file['id'][0]}"
                self._write(dataloader_idx, f"{name}_mixture.wav", mixture)
                self._write_sources(dataloader_idx, name, ordered)
        return rows

    def test_epoch_end(self, outputs: list[list[list[RatedFile]]]) -> Mapping[str, float]:
        """Prints a table of each data set, and writes its CSV and JSON files."""
        result: dict[str, float] = {}
        for dataloader_idx, batches in enumerate(outputs):
            report = _report(self.metrics, [row for rows in batches for row in rows])
            folder = self.result_folder(dataloader_idx)
            report.write_csv(folder / "scores.csv")
            report.write_json(folder / "scores.json")
            name = self.dataset_name("test", dataloader_idx)
            report.show(f"{self.experiment}, {name}: mixture and separated", Console())
            prefix = f"{name}/" if len(outputs) > 1 else ""
            result |= {f"{prefix}{key}": value for key, value in report.summary().items()}
        return result

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        """Writes the separated sources of each file."""
        for file in self.each_file(batch):
            mixture = file["noisy"][0].float().cpu()
            estimates = self.separate(file["noisy"])[0].float().cpu()
            self._show(mixture, estimates)
            self._write_sources(dataloader_idx, file["id"][0], estimates)

    # ------------------------------------------------------------------------------- one file

    def _signals(self, file: Mapping[str, Any], estimates: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Returns mixture [time], and sources and estimates [sources, time] in the same order, all on the CPU."""
        mixture, sources, found = (signal[0].float().cpu() for signal in (file["noisy"], file["sources"], estimates))
        if len(found) != len(sources):
            raise RunError(
                f"the network separates {len(found)} sources, but the data set has {len(sources)}",
                remedy="change the number of sources in [model.args]",
            )
        _, assignment = self.score.rate(found, sources, sr=self.sr)
        return mixture, sources, found[assignment]

    def _row(
        self, rater: Rater, file: Mapping[str, Any], mixture: Tensor, sources: Tensor, estimates: Tensor
    ) -> RatedFile:
        """Rates the estimates. For comparison, rates the mixture as if it were the estimate of each source."""
        signals = {"mixture": mixture.expand_as(sources), "separated": estimates, "sources": sources}
        return rater.rate(file["id"][0], signals)

    def _show(self, mixture: Tensor, estimates: Tensor, sources: Tensor | None = None) -> None:
        """Passes the signals to hooks, for example to write them to TensorBoard."""
        signals = {"mixture": mixture}
        for name, waves in (("estimate", estimates), ("source", sources)):
            signals |= {f"{name}_{number}": wave for number, wave in enumerate(() if waves is None else waves, 1)}
        self.show(**signals)

    def _write_sources(self, dataloader_idx: int, name: str, estimates: Tensor) -> None:
        for number, wave in enumerate(estimates, start=1):
            self._write(dataloader_idx, f"{name}_{number}.wav", wave)

    def _write(self, dataloader_idx: int, name: str, wave: Tensor) -> None:
        write_audio(self.result_file(dataloader_idx, name), wave, self.sr, encoding="float")


def _report(metrics: Sequence[Metric], rows: Sequence[RatedFile]) -> Report:
    return Report(metrics, rows, states=_STATES, group="")
