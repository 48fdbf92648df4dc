"""The signals of a file that an evaluation rates, shows and writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import Tensor

from audiozen_core.scoring.metric import Metric
from audiozen_core.scoring.rating import RatedFile
from audiozen_core.scoring.report import STATES, Report


class RatedSignals:
    """The signals of speech enhancement: `noisy`, `enhanced` and `clean`. A trainer for another task overrides them.

    Attributes:
        target: the key of the target in a batch, and its name in ratings.
        states: maps the names of the input and of the output to their headings in a table.
        group: the key by which a report groups files; see `Report`.
        score_is_gain: whether the score is the mean improvement of the metric, instead of its mean.
        encoding: how audio is written; see `write_audio`.
        pairs_remedy: the remedy in the error for a data set in which no pair can be rated.
    """

    sr: int
    target: ClassVar[str] = "clean"
    states: ClassVar[Mapping[str, str]] = STATES
    group: ClassVar[str] = "snr"
    score_is_gain: ClassVar[bool] = False
    encoding: ClassVar[Literal["pcm_16", "float"]] = "pcm_16"
    pairs_remedy: ClassVar[str] = (
        "give it noisy files that differ from the clean ones (are both folders the same?) and are not silent, or "
        "remove the section"
    )

    @staticmethod
    def metric_of_file(metric: Metric) -> Metric:
        """Returns the metric that rates the signals of a file. Here this is the metric itself."""
        return metric

    def signals(self, file: Mapping[str, Any], wave: Tensor | None) -> dict[str, Tensor]:
        """Returns the signals of a file that are rated: input, output and, if the file has one, the target.

        All are float32 on the CPU.

        Args:
            file: a batch of one file.
            wave: the waveform that `enhance_file` returned; None if only the signals of the data set are needed.
        """
        given, output = self.states
        signals = {given: file["noisy"], output: wave, self.target: file.get(self.target)}
        return {kind: signal[0].float().cpu() for kind, signal in signals.items() if signal is not None}

    def available(self, file: Mapping[str, Any]) -> frozenset[str]:
        """Returns the names of what metrics may use in addition to the output: other signals, `text`, the `network`."""
        names = {"clean": self.target, "noisy": "noisy", "far_end": "far_end", "text": "text"}
        return frozenset(("network", *(need for need, key in names.items() if key in file)))

    def audio(self, signals: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Returns the waves [time] that hooks receive and a test writes. The keys are the endings of the file names."""
        return signals

    def predicted(self, signals: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Returns the waves [time] that a prediction writes. The keys are the parts of the file names after the ID."""
        return {"": signals[list(self.states)[-1]]}

    def report(self, metrics: Sequence[Metric], rows: Sequence[RatedFile]) -> Report:
        """Returns the report of a data set."""
        return Report(metrics, rows, states=self.states, group=self.group, sr=self.sr)
