"""The loss of MetricGAN: a discriminator learns a metric, and the generator learns from the discriminator."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Any

import torch
from torch import Tensor

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.binding.ranges import Natural, Positive, Range, check_ranges
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.errors import RunError
from audiozen_core.logging import get_logger
from audiozen_core.scoring.chosen import MetricSpec, build_metric, metric_finding, needs_error, sample_rate_error
from audiozen_core.scoring.metric import Metric
from audiozen_core.scoring.rating import Rater
from audiozen_plugins.loss.adversarial import AdversarialLoss, Judge, JudgedSignals

RANGES: Mapping[str, tuple[float, float]] = MappingProxyType(
    {"pesq": (-0.5, 4.5), "pesq_nb": (-0.5, 4.5), "stoi": (0.0, 1.0), "estoi": (0.0, 1.0), "si_sdr": (-10.0, 30.0)}
)
"""The worst and the best value of metrics, by name. They become 0 and 1."""


class MetricGanLoss(AdversarialLoss):
    """The loss of a discriminator that predicts a metric from an estimate and the clean speech.

    Fu et al., "MetricGAN: Generative Adversarial Networks based Black-box Metric Scores Optimization for Speech
    Enhancement", ICML 2019, and "MetricGAN+", Interspeech 2021. `D` is a score of the discriminator, and `Q` is the
    metric, scaled to the range from 0 to 1. The discriminator minimises

        mean((D(enhanced, clean) - Q(enhanced))² + (D(clean, clean) - 1)² + (D(noisy, clean) - Q(noisy))²)

    and the generator minimises `mean((D(enhanced, clean) - 1)²)`. The term with the noisy speech comes from MetricGAN+.
    If the metric has no value for a signal, such as silence, the term of this signal is left out.

    In each step that trains the discriminator, the metric is computed on the CPU, so the CPU must wait for the GPU. The
    mean of the metric's finite values, each clipped to the range from `worst` to `best`, is recorded as
    `train/loss_<suffix>/<metric>`.

    If `replay` is above 0, the discriminator also learns from earlier outputs of the generator, as in both papers. A
    buffer keeps the newest clips. To each batch of N clips, N random clips of the buffer are added. The buffer is saved
    with the weights, so a resumed run continues exactly. The buffer keeps only the first `replay_samples` samples of a
    clip, so set this argument to the length of the training clips. With several processes, only the clips of the first
    process are in the buffer.

    Args:
        metric: the metric, by its name or as a table with `path` and `args`.
        worst: the value of the metric that is scaled to 0. The defaults are -0.5 for PESQ, 0 for STOI, and -10 dB for
            SI-SDR.
        best: the value of the metric that is scaled to 1. The defaults are 4.5 for PESQ, 1 for STOI, and 30 dB for
            SI-SDR. Values beyond `worst` and `best` are clipped.
        noisy: whether the discriminator also learns from the noisy speech.
        replay: the number of clips in the buffer; 0 for no buffer.
        replay_samples: the number of samples of each clip that the buffer keeps.
        weight: the factor of this discriminator in the loss of the generator.

    Raises:
        RunError: the metric has no default for `worst` or `best` and the argument is missing; or `worst` and `best`
            are equal, or in the wrong order.
        MissingExtraError: the package of the metric is not installed.
    """

    def __init__(
        self,
        metric: MetricSpec,
        worst: float | None = None,
        best: float | None = None,
        noisy: bool = True,
        replay: Natural = 0,
        replay_samples: Positive = 32000,
        weight: Annotated[float, Range(least=0)] = 1.0,
    ) -> None:
        check_ranges(MetricGanLoss, locals())
        super().__init__(weight)
        self.metric = build_metric(metric)
        if error := needs_error(self.metric, ("clean",)) or _range_error(self.metric, worst, best):
            raise error
        known = RANGES.get(self.metric.name, (0.0, 1.0))
        self.worst, self.best = known[0] if worst is None else worst, known[1] if best is None else best
        self.noisy = noisy
        self.replay = replay
        self._has_warned = False
        if replay:
            self.kept: Tensor
            self.kept_scores: Tensor
            self.kept_count: Tensor
            self.register_buffer("kept", torch.zeros(replay, 2, replay_samples))
            self.register_buffer("kept_scores", torch.zeros(replay))
            self.register_buffer("kept_count", torch.zeros((), dtype=torch.int64))

    @classmethod
    def check_settings(cls, args: Mapping[str, Any], *, acoustics: Acoustics) -> Iterator[Diagnostic]:
        """Yields the mistakes in the metric that `audiozen check` can find."""

        def error(metric: Metric) -> RunError | None:
            return (
                sample_rate_error(metric, acoustics.sr)
                or needs_error(metric, ("clean",))
                or _range_error(metric, args.get("worst"), args.get("best"))
            )

        if found := metric_finding(args.get("metric"), ("args", "metric"), severity="error", check=error):
            yield found

    def discriminator_loss(self, judge: Judge, signals: JudgedSignals) -> Tensor:
        """Returns the loss of the discriminator, a scalar.

        Raises:
            RunError: the metric fails, or the discriminator does not return one score for each clip.
        """
        scores = self.scores(signals.enhanced, signals.clean, signals.sr)
        self._record(scores)
        error = _error(judge(signals.enhanced, signals.clean), scores)
        error = error + _error(judge(signals.clean, signals.clean), torch.ones_like(scores))
        if self.noisy:
            noisy = self.scores(signals.noisy, signals.clean, signals.sr)
            error = error + _error(judge(signals.noisy, signals.clean), noisy)
        if self.replay:
            if int(self.kept_count):
                held = min(int(self.kept_count), self.replay)
                drawn = torch.randint(held, (len(scores),)).to(self.kept.device)
                estimate, clean = self.kept[drawn].unbind(1)
                error = error + _error(judge(estimate, clean), self.kept_scores[drawn])
            if self.training:
                self._keep(signals, scores)
        return error.mean()

    def generator_loss(self, judge: Judge, signals: JudgedSignals) -> Tensor:
        """Returns the adversarial loss of the generator, a scalar, without the factor `weight`."""
        return _error(judge(signals.enhanced, signals.clean), torch.ones_like(signals.clean[:, 0])).mean()

    def scores(self, estimate: Tensor, clean: Tensor, sr: int) -> Tensor:
        """Returns the metric of waveforms [batch, time], scaled to 0 … 1, as [batch]; NaN where it has no value."""
        rater = Rater([self.metric], sr)
        pairs = zip(estimate.detach().float().cpu(), clean.float().cpu(), strict=True)
        rows = [
            rater.rate(f"clip {index} of the batch", {"clean": of_clean, "estimate": of_estimate})
            for index, (of_estimate, of_clean) in enumerate(pairs)
        ]
        values = torch.tensor([row.values["estimate"][self.metric.name] for row in rows])
        scaled = ((values - self.worst) / (self.best - self.worst)).clamp(0, 1)
        return scaled.where(values.isfinite(), math.nan).to(clean.device)

    def _record(self, scores: Tensor) -> None:
        if bool(scores.isfinite().any()):
            self.recorded_scalars[self.metric.name] = scores.nanmean() * (self.best - self.worst) + self.worst
        elif not self._has_warned:
            self._has_warned = True
            get_logger().warning(
                f"{self.metric.label} has no value for any clip of a batch, so nothing is learnt from it",
                remedy="train with longer clips (`clip_seconds` of the data set), or with another metric",
            )

    @torch.no_grad()
    def _keep(self, signals: JudgedSignals, scores: Tensor) -> None:
        """Puts the clips for which the metric has a value into the buffer. They replace the oldest clips."""
        length = self.kept.shape[-1]
        for estimate, clean, score in zip(signals.enhanced, signals.clean, scores, strict=True):
            if bool(score.isfinite()):
                place = int(self.kept_count) % self.replay
                self.kept[place] = 0
                for row, wave in enumerate((estimate, clean)):
                    self.kept[place, row, : min(length, len(wave))] = wave[:length]
                self.kept_scores[place] = score
                self.kept_count += 1


def _error(judgements: list[list[Tensor]], targets: Tensor) -> Tensor:
    """Returns the squared error of the scores for each clip, [batch]; 0 where the target is NaN."""
    found = torch.stack([scores.reshape(len(scores), -1).mean(1) for *_, scores in judgements]).mean(0)
    known = targets.isfinite()
    return (found - targets.where(known, 0)).square().where(known, 0)


def _range_error(metric: Metric, worst: float | None, best: float | None) -> RunError | None:
    known = RANGES.get(metric.name)
    if known is None and (worst is None or best is None):
        return RunError(
            f"the loss needs the worst and the best value of {metric.label}, to scale it to the range from 0 to 1",
            remedy="set `worst` and `best` in the `args` of the loss",
        )
    low, high = known or (0.0, 1.0)
    low, high = low if worst is None else worst, high if best is None else best
    if low == high:
        return RunError(f"`worst` and `best` of {metric.label} are both {low}", remedy="set two different numbers")
    if (low < high) != metric.higher_is_better:
        better = "higher" if metric.higher_is_better else "lower"
        return RunError(
            f"{metric.label} is better when {better}, but `worst` is {low} and `best` is {high}",
            remedy="swap the two numbers",
        )
    return None
