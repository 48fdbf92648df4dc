"""Rates files with several metrics, before and after enhancement. Each noisy file is rated only once per run."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from audiozen_core.errors import AudioZenError, DataError, RunError
from audiozen_core.hooks.scalars import as_scalar, form_of
from audiozen_core.scoring.metric import Metric
from audiozen_core.scoring.si_sdr import si_sdr


@dataclass(frozen=True, slots=True)
class Row:
    """The values of one file, in each state that was rated: before and after enhancement, for example.

    Attributes:
        id: the ID of the file.
        values: for each state (such as `noisy` and `enhanced`), the value of each metric by its name. A value that is
            not finite is not part of any mean.
        faults: the faulty signals by name (a state or the reference), each with the reason why no metric has a value:
            `{"noisy": "noisy equals clean"}`.
        group: the number by which a report groups the files, such as the nominal signal-to-noise ratio in dB; None if
            it is not known.
    """

    id: str
    values: Mapping[str, Mapping[str, float]]
    faults: Mapping[str, str] = field(default_factory=dict)
    group: float | None = None


class Rater:
    """Rates files with several metrics, in each of their states: before and after enhancement, for example.

    No metric has a value for a degenerate pair of signals, so that the means of all metrics leave out the same files. A
    pair is degenerate if a signal is constant or has a NaN or infinite sample, or if both are equal up to a gain.

    The last state is the network's output. The values of all other states are kept, so that the next validation does
    not compute them again. They are looked up by a hash of the samples: another file with the same ID never gets them.

    Args:
        metrics: the metrics.
        sr: the sample rate of all files, in hertz.
        reference: the name of the signal that the others are compared with.
    """

    def __init__(self, metrics: Sequence[Metric], sr: int, *, reference: str = "clean") -> None:
        self.metrics = tuple(metrics)
        self.sr = sr
        self.reference = reference
        self._kept: dict[bytes, tuple[dict[str, float], dict[str, str]]] = {}

    def rate(self, name: str, signals: Mapping[str, Tensor], *, group: float | None = None) -> Row:
        """Rates one file.

        Args:
            name: the ID of the file.
            signals: the reference and the states, with the network's output last. All have the same shape, [time], or
                [..., time] if the metrics take it, and are on the CPU. They are not changed.
            group: the `group` of the row.

        Raises:
            DataError: the reference is missing, or a signal has another shape.
            RunError: a metric fails.
        """
        self._check(name, signals)
        states = [state for state in signals if state != self.reference]
        with contextlib.ExitStack() as stack:
            # The trainer's step runs in mixed precision, which must not round the filters of a metric.
            for device in ("cpu", *["cuda"] * torch.cuda.is_available()):
                stack.enter_context(torch.autocast(device, enabled=False))
            rated = {state: self._rate(name, state, signals, keep=state != states[-1]) for state in states}
        faults = {kind: reason for _, found in rated.values() for kind, reason in found.items()}
        return Row(name, {state: values for state, (values, _) in rated.items()}, faults, group)

    def _check(self, name: str, signals: Mapping[str, Tensor]) -> None:
        """Checks that the signals of a file can be compared."""
        shapes = {key: list(signal.shape) for key, signal in signals.items()}
        given = (f"given: {', '.join(f'{key} {shape}' for key, shape in shapes.items()) or 'no signal'}",)
        if self.reference not in signals:
            message = f"`{name}` can't be rated, because the signals lack the reference `{self.reference}`"
            raise DataError(message, notes=given, remedy="add it, or name another `reference`")
        if any(shape != shapes[self.reference] for shape in shapes.values()):
            message = f"`{name}` can't be rated, because its signals have different shapes"
            raise DataError(message, notes=given, remedy="cut all signals to the same length")

    def _rate(
        self, name: str, state: str, signals: Mapping[str, Tensor], *, keep: bool
    ) -> tuple[dict[str, float], dict[str, str]]:
        """Returns the values of one state, and the faults of the pair."""
        signal, reference = signals[state], signals[self.reference]
        key = hashlib.blake2b(state.encode(), digest_size=16)
        for one in (signal, reference) if keep else ():
            key.update(f"{one.dtype} {list(one.shape)}".encode() + one.contiguous().numpy().tobytes())
        if keep and key.digest() in self._kept:
            return self._kept[key.digest()]
        faults = faults_of({self.reference: reference, state: signal})
        values = {
            metric.name: math.nan if faults else self._value(metric, name, signal, reference) for metric in self.metrics
        }
        if keep:
            self._kept[key.digest()] = values, faults
        return values, faults

    def _value(self, metric: Metric, name: str, signal: Tensor, reference: Tensor) -> float:
        which = f"metric: `{type(metric).__name__}`"
        try:
            # A metric may work in place, so each gets copies of its own.
            value = metric(signal.clone(), reference.clone(), sr=self.sr)
        except AudioZenError:
            raise
        except Exception as error:
            raise RunError.caused_by(
                error,
                f"the metric `{metric.name}` fails for `{name}`:",
                notes=(f"given: two signals {list(reference.shape)} at {self.sr} Hz", which),
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


def faults_of(pair: Mapping[str, Tensor]) -> dict[str, str]:
    """Returns the reason why a pair of signals is degenerate, or nothing if every metric is meaningful for it.

    A constant signal counts as silent. Signals that differ only in their gain count as equal.

    Args:
        pair: the reference, and the signal that is compared with it, [..., time], by name.

    Returns:
        The reason, by the name of the signal that is at fault.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> clean = torch.tensor([0.1, -0.2, 0.3])
        >>> faults_of({"clean": clean, "noisy": clean}), faults_of({"clean": 0 * clean, "noisy": clean})
        ({'noisy': 'noisy equals clean'}, {'clean': 'clean is silent'})
    """
    for name, one in pair.items():
        if not one.isfinite().all():
            return {name: f"{name} is not finite"}
    for name, one in pair.items():
        if bool((one == one[..., :1]).all(-1).any()):
            return {name: f"{name} is silent"}
    (reference_name, reference), (name, signal) = pair.items()
    equal = bool((si_sdr(signal, reference) == math.inf).any())
    return {name: f"{name} equals {reference_name}"} if equal else {}
