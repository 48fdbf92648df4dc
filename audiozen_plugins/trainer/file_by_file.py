"""Validation, test and prediction of enhancement and separation, file by file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from torch import Tensor

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.binding.ranges import Range, check_ranges
from audiozen_core.binding.signature import signature_of
from audiozen_core.data.loader import BatchLoader
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Severity
from audiozen_core.diagnostics.listed import listed
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.kinds import Mode
from audiozen_core.scoring.chosen import (
    MetricSpec,
    as_finding,
    build_metric,
    build_metrics,
    check_metrics,
    direction_error,
    metric_finding,
    needs_error,
    sample_rate_error,
)
from audiozen_core.scoring.metric import Metric, needs_of
from audiozen_core.scoring.rating import RatedFile, Rater, faults_of
from audiozen_core.scoring.rating_pool import RatingPool, default_workers
from audiozen_core.scoring.report import Report
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.module_state import unwrapped
from audiozen_plugins.trainer.long_files import LongFiles, chunk_error
from audiozen_plugins.trainer.pair_watch import PairWatch
from audiozen_plugins.trainer.rated_signals import RatedSignals
from audiozen_plugins.trainer.result_audio import write_finite
from audiozen_plugins.trainer.scores import FileResult, index_of_set, no_pair, unknown_set, unrated, validation_scores


class FileByFile(RatedSignals, LongFiles, BaseTrainer):
    """The validation, test and prediction of a trainer. A subclass defines `enhance_batch` and `compare`.

    In the trainer `separation`, "noisy" means the mixture, and "enhanced" means the separated signals.

    Validation, test and prediction process each file separately and without padding, so no result depends on the batch
    size. The score is the mean of a metric over the enhanced files. The mean over the noisy files is also recorded.

    If the metric has no finite value for the noisy signal of a file, the file is listed and left out of the means. If
    all pairs of a data set are degenerate (silent, not finite, or noisy equals clean), the run ends with an error. If a
    metric has no value for any file, the trainer warns. If the metric has a finite value for the noisy signal of a
    file, but not for the output of the network, the file is listed, and the mean is NaN, so the epoch can't be best.

    The test prints a table of noisy and enhanced scores for each data set, and writes `scores.csv`, `scores.json` and
    the audio to a folder such as `test/best_epoch_0012/0/`. Prediction writes `<ID>.wav` to its own folder.

    Args:
        components: the components to work with; passed by AudioZEN.
        score: the metric whose mean over the validation files is the score, as a name or as a table with `path` and
            `args`.
        score_dataset: the name of the validation set that gives the score; by default the first set.
        metrics: the metrics of the test, as names or as tables. A metric is left out, with a warning, if its package is
            not installed, if it does not support the sample rate, or if it needs something that a data set lacks, such
            as `text`.
        save_enhanced: whether the test writes audio files.
        metric_workers: the number of processes that compute the metrics of a validation and of a test while the network
            processes the next files; 0 for none. This number does not change any result. By default, processes start if
            the metrics take more than 10 ms for a file, as PESQ does. Their number is then one more than the number of
            CPUs that the network does not use. The main process itself computes metrics that use a neural network, and
            all metrics of files that last many minutes.
        chunk_seconds: the length of a chunk, by default 60 s. Longer files are cut into chunks, and the network starts
            from its initial state in each chunk. If `chunk_seconds` is not set and the network can carry its state, it
            continues instead from one part of a file to the next, and the result is the same as for the whole file; see
            docs/long_audio.md. The length is rounded to a multiple of `hop_length` samples.
        overlap_seconds: the length by which two chunks overlap, by default a tenth of a chunk, and at most half a
            chunk. The overlap is rounded to a multiple of three times `hop_length` samples, and is at least three times
            `hop_length`. A chunk is never shorter than two overlaps.

    Raises:
        RunError: a chunk is too short for its overlaps, `score` does not support the sample rate or contradicts
            `save_max_score`, two metrics have the same name, or no validation set has the name in `score_dataset`.
        MissingExtraError: the package of `score` is not installed.
    """

    resume_safe: ClassVar[tuple[str, ...]] = ("metrics", "save_enhanced", "metric_workers")
    # The arguments that inference does not need, besides those of `BaseTrainer`.
    only_for_runs: ClassVar[tuple[str, ...]] = ("score", "score_dataset", "metrics", "save_enhanced", "metric_workers")

    def __init__(
        self,
        components: Components,
        *,
        score: MetricSpec = "si_sdr",
        score_dataset: str | None = None,
        metrics: Sequence[MetricSpec] = ("si_sdr", "stoi", "pesq"),
        save_enhanced: bool = True,
        metric_workers: Annotated[int, Range(least=0)] | None = None,
        chunk_seconds: float | None = None,
        overlap_seconds: Annotated[float, Range(above=0)] | None = None,
        **kwargs: Any,
    ) -> None:
        check_ranges(FileByFile, locals())
        super().__init__(components, **kwargs)
        self._set_chunks(chunk_seconds, overlap_seconds)
        self._ratings = RatingPool(metric_workers, argument="metric_workers")
        if components.only_enhances:
            return
        self.score = self.metric_of_file(build_metric(score))
        # If the run monitors a scalar other than the score, the metric's direction does not matter.
        direction = self.save_max_score if self.monitor == "score" else None
        if error := self._score_error(self.score, self.sr, save_max_score=direction):
            raise error
        self.score_dataset = index_of_set(score_dataset, components.dataset_names.get("validate", ()))
        self.save_enhanced = save_enhanced
        self.metrics, left_out = build_metrics(metrics, self.sr, states=self.states, wrap=self.metric_of_file)
        for reason in left_out:
            self.log.warning(f"left out of the test: {reason.message}", remedy=reason.remedy)
        self._validation_rater = Rater([self.score], self.sr, reference=self.target, noisy=next(iter(self.states)))
        self._test_raters: dict[frozenset[str], Rater] = {}
        self._pairs = PairWatch()
        self._files_written = 0
        self._not_finite: list[str] = []

    @classmethod
    def check_settings(
        cls, args: Mapping[str, Any], *, acoustics: Acoustics, dataset_names: Mapping[Mode, Sequence[str]]
    ) -> Iterator[Diagnostic]:
        """Yields the mistakes that `audiozen check` can find in the metrics, `score_dataset` and the chunks."""
        signature = signature_of(cls)

        def value(name: str) -> Any:
            parameter = signature.get(name) if signature else None
            return args.get(name, parameter.default if parameter else None)

        def score_error(metric: Metric) -> AudioZenError | None:
            direction = value("save_max_score")
            known = isinstance(direction, bool) and value("monitor") == "score"
            return cls._score_error(metric, acoustics.sr, save_max_score=direction if known else None)

        names = dataset_names.get("validate", ())
        severity: Severity = "error" if names else "warning"
        if found := metric_finding(value("score"), ("args", "score"), severity=severity, check=score_error):
            yield found
        yield from check_metrics(
            value("metrics"), "metrics", sr=acoustics.sr, states=cls.states, wrap=cls.metric_of_file
        )
        name = args.get("score_dataset")
        if name is not None and not names:
            yield Diagnostic(
                config_codes.UNFIT,
                "`score_dataset` has no effect without a validation set",
                severity="warning",
                label="add a section `[[validate_dataset]]` with this `name`, or remove `score_dataset`",
                place=("args", "score_dataset"),
            )
        if error := unknown_set(name, names):
            similar = nearest(str(name), names)
            finding = as_finding(error, config_codes.BAD_VALUE, ("args", "score_dataset"))
            yield replace(finding, label=did_you_mean(similar), suggestion=f'"{similar}"' if similar else None)
        if wrong := chunk_error(value("chunk_seconds"), value("overlap_seconds")):
            argument, error = wrong
            yield as_finding(error, config_codes.BAD_VALUE, ("args", argument))

    @classmethod
    def _score_error(cls, score: Metric, sr: int, *, save_max_score: bool | None) -> AudioZenError | None:
        """Returns the error if a metric can't be the score; None if it can, or if `save_max_score` is not known."""
        # If a subclass computes a score of its own, the direction of the metric does not matter.
        if cls._scores_itself() or save_max_score is None:
            return sample_rate_error(score, sr)
        if cls.score_is_gain and not save_max_score:
            return RunError(
                "the score is an improvement, which is better when higher, but `save_max_score = false`",
                remedy="leave `save_max_score` out of [trainer.args]",
            )
        return sample_rate_error(score, sr) or (None if cls.score_is_gain else direction_error(score, save_max_score))

    @classmethod
    def _scores_itself(cls) -> bool:
        return cls.validation_epoch_end is not FileByFile.validation_epoch_end

    def compare(self, wave: Tensor, spectrum: Tensor | None, clean: Tensor) -> Tensor:
        """Computes the loss of enhanced waveforms [batch, time] (and their spectra, if known) against clean ones."""
        raise NotImplementedError

    def file_loss(self, file: Mapping[str, Any], wave: Tensor, spectrum: Tensor | None) -> Tensor | None:
        """Computes the validation loss of one file from the results of `enhance_file`; None if there is no loss."""
        return self.compare(wave, spectrum, file[self.target]) if self.loss_functions else None

    def _check_validation_sets(self, loaders: Sequence[BatchLoader]) -> None:
        """Checks that each validation set has a pair that can be rated.

        Raises:
            DataError: all pairs of a validation set are degenerate.
        """
        # A subclass with its own `validation_step` may use other signals, so its data sets are not checked. This does
        # not use `type(self)`, because the check for unused losses must see that no method passes the trainer on.
        own = self.__class__
        if own.validation_step is FileByFile.validation_step and not own._scores_itself():
            for dataloader_idx, of_set in enumerate(loaders):
                self._find_pair(of_set, self._prefix("validate", dataloader_idx, len(loaders)))

    def _find_pair(self, loader: BatchLoader, prefix: str) -> None:
        """Reads batches of a validation set until one has a pair that can be rated. Mostly, the first batch has one."""
        rows: list[RatedFile] = []
        found = False
        for batch_idx, item in enumerate(self.batches(loader, epoch=0)):
            for file in () if item is None else self.each_file(self.load_batch(item, "validate", batch_idx)):
                if error := needs_error(self.score, self.available(file) - {"network"}):
                    raise error
                signals = self.signals(file, None)
                faults = faults_of({kind: signals[kind] for kind in (self.target, next(iter(self.states)))})
                rows.append(unrated(str(file["id"][0]), faults, self.score, self.states))
                found = found or not rows[-1].faults
            if found:
                break
        if not self.ranks.any(found) and rows:
            raise no_pair("validate", prefix, self.report([self.score], rows), self.pairs_remedy)

    def _evaluate(self, mode: Mode, loaders: Sequence[BatchLoader], step: Callable[..., Any]) -> list[list[Any]]:
        """Runs a step over all batches. Processes compute the metrics; at the end, they have rated all files."""
        with self._ratings.running(default_workers(self.device, self.ranks.local_size)):
            return super()._evaluate(mode, loaders, step)

    def load_batch(self, item: Any, mode: Mode, batch_idx: int) -> Any:
        """Moves a batch to the device and prepares it, unless the metrics of an earlier file have failed."""
        self._ratings.check()
        return super().load_batch(item, mode, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> list[FileResult]:
        """Returns the score of each file before and after enhancement, and the loss if there is a loss function."""
        validated = []
        for file in self.each_file(batch):
            wave, spectrum = self.enhance_file(file)
            signals = self.signals(file, wave)
            self.show(**self.audio(signals))
            row = self._rate(self._validation_rater, file, signals)
            loss = self.file_loss(file, wave, spectrum)
            validated.append(FileResult(row, loss, self.take_loss_scalars()))
        return validated

    def validation_epoch_end(self, outputs: list[list[list[FileResult]]]) -> Mapping[str, float]:
        """Returns the mean score over the files of each data set, before and after enhancement, and the mean loss.

        Raises:
            DataError: all pairs of a data set are degenerate.
        """
        result: dict[str, float] = {}
        for dataloader_idx, batches in enumerate(outputs):
            files = [file for batch in batches for file in batch]
            name = self._prefix("validate", dataloader_idx, len(outputs))
            report = self.report([self.score], [file.row for file in files])
            self._pairs.check_pairs("validate", name, report, self.pairs_remedy)
            scores = validation_scores(report, files, gain=self.score_is_gain)
            if dataloader_idx == self.score_dataset:
                result["score"] = scores.scalars[f"{self.score.name}{'_gain' * self.score_is_gain}"]
                self.why_no_score = scores.why_no_mean
            result |= {f"{name}{key}": value for key, value in scores.scalars.items()}
            # Faulty pairs are the same in every validation, so they are named only once. Faulty outputs may change.
            for line in (*self._pairs.new_lines(scores.faulty_pairs), *scores.faulty_outputs):
                self.log.warning(f"validation {name}{line}")
            given = next(iter(self.states))
            self._pairs.check_unchanged(name, given, scores.scalars[f"{self.score.name}_{given}"])
        return result

    def test(self, loaders: Sequence[BatchLoader]) -> Mapping[str, float]:
        """Runs `test_step` over all batches. Metrics that need the network watch it during the test."""
        with contextlib.ExitStack() as stack:
            for metric in self.metrics:
                if "network" in needs_of(metric):
                    stack.enter_context(metric.watch(unwrapped(self.model)))  # type: ignore[attr-defined]
            return super().test(loaders)

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> list[RatedFile]:
        """Measures each file before and after enhancement, and writes its audio."""
        rows = []
        for file in self.each_file(batch):
            wave, _ = self.enhance_file(file)
            signals = self.signals(file, wave)
            self.show(**self.audio(signals))
            rows.append(self._rate(self._test_rater(self.available(file)), file, signals))
            if self.save_enhanced:
                for kind, signal in self.audio(signals).items():
                    self._write(dataloader_idx, f"audio/{file['id'][0]}", len(signal), [{f"_{kind}": signal}])
        return rows

    def test_epoch_end(self, outputs: list[list[list[RatedFile]]]) -> Mapping[str, float]:
        """Prints a table of each data set, and writes its CSV and JSON files.

        Raises:
            DataError: all pairs of a data set are degenerate. The files of all data sets have been written.
        """
        result: dict[str, float] = {}
        for dataloader_idx, batches in enumerate(outputs):
            report = self._test_report(batches)
            folder = self.result_folder(dataloader_idx)
            report.write_csv(folder / "scores.csv")
            report.write_json(folder / "scores.json")
            name = self._prefix("test", dataloader_idx, len(outputs))
            title = f"{self.experiment}{f', {self.checkpoint_name}' * bool(self.checkpoint_name)}"
            title += f", {name.rstrip('/')}" * bool(name)
            # Standard output may be closed (for example by `| head`). The results are also in the files.
            with contextlib.suppress(OSError):
                from rich.console import Console

                report.show(f"{title}: {' and '.join(self.states)}", Console())
            for metric in self.metrics:
                needs = " and ".join(f"`{need}`" for need in needs_of(metric))
                if metric not in report.metrics:
                    self.log.warning(f"test {name}{metric.label} is left out, because it needs {needs} in each sample")
            for line in (*report.faulty_pairs(), *report.faulty_outputs()):
                self.log.warning(f"test {name}{line}")
            result |= {f"{name}{key}": value for key, value in report.summary().items()}
        for dataloader_idx, batches in enumerate(outputs):
            name = self._prefix("test", dataloader_idx, len(outputs))
            report = self._test_report(batches)
            self._pairs.check_pairs("test", name, report, self.pairs_remedy)
        return result

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> None:
        """Writes the enhanced files."""
        for file in self.each_file(batch):
            name = str(file["id"][0])
            if self._write(dataloader_idx, name, file["noisy"].shape[-1], map(self.predicted, self._enhanced(file))):
                self._files_written += 1
            else:
                self._not_finite.append(name)

    def _enhanced(self, file: Mapping[str, Any]) -> Iterator[dict[str, Tensor]]:
        """Yields the signals of a file: piece by piece if possible, and otherwise the whole signals at once."""
        # If the targets are known, the speakers are sorted in the order of the targets. This needs the whole file.
        if self._is_whole(file) or self.target in file or self.hooks.uses_signals("predict"):
            wave, _ = self.enhance_file(file)
            signals = self.signals(file, wave)
            self.show(**self.audio(signals))
            yield signals
            return
        begin = 0
        for piece in self.enhance_pieces(file, [file["noisy"]]):
            end = begin + piece.shape[-1]
            yield self.signals({**file, "noisy": file["noisy"][..., begin:end]}, piece)
            begin = end

    def predict(self, loaders: Sequence[BatchLoader]) -> None:
        """Runs `predict_step` over all batches.

        Raises:
            RunError: the network's output is not finite for some files. All other files have been written.
        """
        self._files_written, self._not_finite = 0, []
        super().predict(loaders)
        self.log.info("predicted", files=self._files_written)
        if broken := self._not_finite:
            count = self._files_written + len(broken)
            raise RunError(
                f"the network's output contains NaN or infinity for {len(broken)} of {count} files",
                notes=(f"not written: {listed(broken)}",),
                remedy="look for silent or very loud files, and for a division or a logarithm of 0 in the network",
            )

    def _rate(self, rater: Rater, file: Mapping[str, Any], signals: Mapping[str, Tensor]) -> RatedFile:
        """Rates one file before and after enhancement, given its `signals`."""
        snr = float(torch.as_tensor(file["snr"]).flatten()[0]) if "snr" in file else None
        far_end = file["far_end"][0].float().cpu() if "far_end" in file else None
        text = str(file["text"][0]) if "text" in file else None
        return self._ratings.rate(rater, str(file["id"][0]), signals, group=snr, far_end=far_end, text=text)

    def _test_rater(self, available: frozenset[str]) -> Rater:
        """Returns the rater of the metrics that need only what is in `available`. It is made only once."""
        if available not in self._test_raters:
            metrics = [metric for metric in self.metrics if not needs_error(metric, available)]
            noisy = next(iter(self.states))
            self._test_raters[available] = Rater(metrics, self.sr, reference=self.target, noisy=noisy)
        return self._test_raters[available]

    def _test_report(self, batches: Sequence[Sequence[RatedFile]]) -> Report:
        """Returns the report of a data set, without the metrics that need something that the data set lacks."""
        rows = [row for batch in batches for row in batch]
        rated = {name for row in rows for values in row.values.values() for name in values}
        return self.report([metric for metric in self.metrics if metric.name in rated or not rows], rows)

    def _prefix(self, mode: Mode, dataloader_idx: int, count: int) -> str:
        """Returns the prefix of the scalars of a data set; "" if it is the only data set."""
        return f"{self.dataset_name(mode, dataloader_idx)}/" if count > 1 else ""

    def _write(self, dataloader_idx: int, name: str, frames: int, pieces: Iterable[Mapping[str, Tensor]]) -> bool:
        """Writes the audio files of the item `name`; see `write_finite`."""

        def path_of(end: str) -> Path:
            return self.result_file(dataloader_idx, f"{name}{end}.wav")

        return write_finite(pieces, path_of, sr=self.sr, encoding=self.encoding, frames=frames)
