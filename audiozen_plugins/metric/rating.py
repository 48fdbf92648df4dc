"""Rates files with several metrics: before and after enhancement, on copies, and each noisy file only once."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from audiozen_core.errors import AudioZenError, RunError
from audiozen_core.hooks.scalars import as_scalar, form_of
from audiozen_plugins.metric.metric import Metric
from audiozen_plugins.metric.si_sdr import si_sdr


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one file before and after enhancement, by the name of the metric.

    Attributes:
        id: the ID of the file.
        snr: its nominal signal-to-noise ratio in dB; None if it is not known.
        noisy: the values before enhancement. A value that is not finite is not part of any mean.
        enhanced: the values after enhancement.
        noisy_fault: why no metric has a value for the noisy signal, such as `noisy equals clean`; "" if they may have.
        enhanced_fault: the same for the enhanced signal.
    """

    id: str
    snr: float | None
    noisy: Mapping[str, float]
    enhanced: Mapping[str, float]
    noisy_fault: str = ""
    enhanced_fault: str = ""


class Rater:
    """Rates files before and after enhancement.

    A degenerate pair of signals (see `fault`) has no value, the same for all metrics: the means of all metrics leave
    out the same files.

    The values of noisy files are kept, so that the next validation does not compute them again. They are found by the
    samples of both signals and not by the ID, so that they can't be those of another file.

    Args:
        metrics: the metrics.
        sr: the sample rate of all files, in hertz.
    """

    def __init__(self, metrics: Sequence[Metric], sr: int) -> None:
        self.metrics = tuple(metrics)
        self.sr = sr
        self._noisy: dict[bytes, tuple[dict[str, float], str]] = {}

    def rate(self, name: str, *, snr: float | None, noisy: Tensor, enhanced: Tensor, clean: Tensor) -> Row:
        """Rates one file. The three signals, [time] on the CPU, are left as they are.

        Raises:
            RunError: a metric fails.
        """
        with contextlib.ExitStack() as stack:
            # The trainer's step runs in mixed precision, which must not round the filters of a metric.
            for device in ("cpu", *["cuda"] * torch.cuda.is_available()):
                stack.enter_context(torch.autocast(device, enabled=False))
            return self._rate(name, snr, noisy, enhanced, clean)

    def _rate(self, name: str, snr: float | None, noisy: Tensor, enhanced: Tensor, clean: Tensor) -> Row:
        key = hashlib.blake2b(digest_size=16)
        for signal in (noisy, clean):
            key.update(str(signal.dtype).encode() + signal.contiguous().numpy().tobytes())
        if key.digest() not in self._noisy:
            self._noisy[key.digest()] = self._values(name, "noisy", noisy, clean)
        before, noisy_fault = self._noisy[key.digest()]
        after, enhanced_fault = self._values(name, "enhanced", enhanced, clean)
        return Row(name, snr, before, after, noisy_fault, enhanced_fault)

    def _values(self, name: str, kind: str, signal: Tensor, clean: Tensor) -> tuple[dict[str, float], str]:
        if reason := fault(signal, clean, kind):
            return {metric.name: math.nan for metric in self.metrics}, reason
        return {metric.name: self._value(metric, name, signal, clean) for metric in self.metrics}, ""

    def _value(self, metric: Metric, name: str, signal: Tensor, clean: Tensor) -> float:
        which = f"metric: `{type(metric).__name__}`"
        try:
            # A metric may work in place, so each gets copies of its own.
            value = metric(signal.clone(), clean.clone(), sr=self.sr)
        except AudioZenError:
            raise
        except Exception as error:
            raise RunError.caused_by(
                error,
                f"the metric `{metric.name}` fails for `{name}`:",
                notes=(f"given: two signals of {len(clean)} samples at {self.sr} Hz", which),
                remedy="remove the metric from [trainer.args], or correct it",
            ) from error
        number = as_scalar(value)
        if number is None:
            raise RunError(
                f"the metric `{metric.name}` returns {form_of(value)} for `{name}`",
                notes=(which,),
                remedy="let it return one number, which is NaN where the metric is not defined",
            )
        return float(number)


def fault(signal: Tensor, clean: Tensor, kind: str) -> str:
    """Says why a pair of signals [time] is degenerate, so that no metric is meaningful for it; "" if it is not.

    A signal is silent if it is constant. An equal signal may have another gain.

    Example:
        >>> clean = torch.tensor([0.1, -0.2, 0.3])
        >>> fault(clean, clean, "noisy"), fault(0 * clean, clean, "enhanced"), fault(clean, 0 * clean, "noisy")
        ('noisy equals clean', 'enhanced is silent', 'clean is silent')
    """
    for name, one in (("clean", clean), (kind, signal)):
        if not one.isfinite().all():
            return f"{name} is not finite"
    for name, one in (("clean", clean), (kind, signal)):
        if not one.numel() or bool((one == one[0]).all()):
            return f"{name} is silent"
    return f"{kind} equals clean" if si_sdr(signal, clean).item() == math.inf else ""
