"""Rates files with several metrics, before and after enhancement. In a run, each noisy file is rated only once."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import xxhash
from torch import Tensor

from audiozen_core.data.seeding import keep_generators, seed_from
from audiozen_core.errors import AudioZenError, DataError, RunError
from audiozen_core.hooks.scalars import as_scalar, form_of
from audiozen_core.scoring.blocks import all_finite, constant
from audiozen_core.scoring.metric import Metric, Need, keeps_signals, needs_of
from audiozen_core.scoring.si_sdr import si_sdr

_STRETCH = 4096  # the number of samples that `_differ_in_the_middle` compares

Inputs = Mapping[Need, Tensor | str | None]
"""The inputs of metrics besides the estimate, such as the reference; None for an input that the file lacks."""


@dataclass(frozen=True, slots=True)
class RatedFile:
    """The values of one file, in each state that was rated: before and after enhancement, for example.

    Attributes:
        id: the ID of the file.
        values: for each state (such as `noisy` and `enhanced`), the value of each metric by its name. Means leave out
            values that are not finite.
        faults: why an input is faulty, by the name of the input, which is a state, the reference, `far_end` or `text`:
            `{"noisy": "noisy equals clean"}`. Metrics that need a faulty input have no value.
        group: the number by which a report groups the files, such as the nominal signal-to-noise ratio in dB; None if
            the number is unknown.
    """

    id: str
    values: Mapping[str, Mapping[str, float]]
    faults: Mapping[str, str] = field(default_factory=dict)
    group: float | None = None


@dataclass(slots=True)
class FileToRate:
    """A file with the states to rate, as returned by `Rater.prepare`.

    Attributes:
        name: the ID of the file.
        signals: the reference and the states, with the network's output last.
        states: the states to rate.
        group: the `group` of the row.
        far_end: the loudspeaker signal.
        text: the transcript.
        keys: for each state except the last, the key under which the rater stores the state's values.
    """

    name: str
    signals: Mapping[str, Tensor]
    states: Sequence[str]
    group: float | None = None
    far_end: Tensor | None = None
    text: str | None = None
    keys: dict[str, bytes] = field(default_factory=dict)


Rated = Mapping[str, tuple[dict[str, float], dict[str, str]]]
"""The values by metric and the faults by signal, for each state that `Rater.compute` has rated."""


class Rater:
    """Rates files with several metrics, in each state of a file: before and after enhancement, for example.

    No metric has a value for a degenerate pair of signals, so that the means of all metrics leave out the same files. A
    pair is degenerate if one signal is constant or has a NaN or infinite sample, or if the two signals are equal up to
    a gain. A reference-free metric has no value if the signal itself is constant, NaN or infinite.

    The last state is the network's output. The rater stores the values of all other states, so that the next validation
    does not compute these values again. The key of the values is a hash of the samples, so a different file with the
    same ID never gets the stored values.

    Before each call of a metric, the global random generators are seeded from the samples of the rated signal. The
    value of a metric that draws random numbers therefore depends neither on the name of the file, nor on other metrics
    and files. Otherwise, stored values would differ from values that are computed again. Afterwards, the generators
    are restored, because which files the main process rates depends on how busy the machine is.

    Args:
        metrics: the metrics.
        sr: the sample rate of all files, in hertz.
        reference: the name of the signal with which the states are compared.
        noisy: the name of the state that is the network's input, for metrics that need the input.
        fault_cache: a cache of faults, which raters that rate the same signals can share.
    """

    def __init__(
        self,
        metrics: Sequence[Metric],
        sr: int,
        *,
        reference: str = "clean",
        noisy: str = "noisy",
        fault_cache: FaultCache | None = None,
    ) -> None:
        self.metrics = tuple(metrics)
        self.sr = sr
        self.reference = reference
        self.noisy = noisy
        self._faults_of = fault_cache or faults_of
        self._needed = {need for metric in self.metrics for need in needs_of(metric)}
        self._kept: dict[bytes, tuple[dict[str, float], dict[str, str]]] = {}

    def rate(
        self,
        name: str,
        signals: Mapping[str, Tensor | None],
        *,
        group: float | None = None,
        far_end: Tensor | None = None,
        text: str | None = None,
        only: str | None = None,
    ) -> RatedFile:
        """Rates one file. If the file lacks an input of a metric, the metric has no value; see `RatedFile.faults`.

        Args:
            name: the ID of the file.
            signals: the reference and the states, with the network's output last. All signals are on the CPU and have
                the same shape: [time], or [..., time] if the metrics accept it. They are not modified. The reference is
                None if the file has no reference, and can be left out if no metric needs a reference.
            group: the `group` of the row.
            far_end: the loudspeaker signal, [time], if the file has one.
            text: the transcript, if the file has one.
            only: the only state to rate; by default, all states are rated. The other states are then used only as
                inputs of metrics.

        Raises:
            DataError: the reference or the network's input is missing, or the shapes of the signals differ.
            RunError: a metric fails.
        """
        file = self.prepare(name, signals, group=group, far_end=far_end, text=text, only=only)
        return self.finish(file, self.compute(file))

    def prepare(
        self,
        name: str,
        signals: Mapping[str, Tensor | None],
        *,
        group: float | None = None,
        far_end: Tensor | None = None,
        text: str | None = None,
        only: str | None = None,
    ) -> FileToRate:
        """Checks the signals of a file, and computes the keys of its stored values. `rate` explains the arguments."""
        present = {kind: signal for kind, signal in signals.items() if signal is not None}
        self._check(name, signals, present, far_end)
        states = [state for state in present if state != self.reference and only in (None, state)]
        file = FileToRate(name, present, states, group, far_end, text)
        for state in states[:-1]:
            file.keys[state] = self._key(file, state)
        return file

    def compute(self, file: FileToRate, metrics: Sequence[Metric] | None = None) -> Rated:
        """Computes the values of the states that have not been rated yet. The rater is not modified.

        Args:
            file: the file.
            metrics: the metrics to compute; by default, all metrics of the rater.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(keep_generators())
            # The trainer may have enabled mixed precision, which would reduce the precision of a metric.
            with_gpu = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
            for device in ("cpu", *["cuda"] * with_gpu):
                stack.enter_context(torch.autocast(device, enabled=False))
            return {
                state: self._rate(file, state, self.metrics if metrics is None else metrics)
                for state in self.states_to_rate(file)
            }

    def states_to_rate(self, file: FileToRate) -> list[str]:
        """Returns the states of a file whose values the rater has not stored yet."""
        return [state for state in file.states if file.keys.get(state) not in self._kept]

    def finish(self, file: FileToRate, *parts: Rated) -> RatedFile:
        """Builds the row of a file from the results of one or more calls of `compute`, each for some or all metrics."""
        rated: dict[str, tuple[dict[str, float], dict[str, str]]] = {}
        for state in file.states:
            key = file.keys.get(state)
            if key in self._kept:
                rated[state] = self._kept[key]
                continue
            values = {name: value for part in parts for name, value in part[state][0].items()}
            faults = {kind: reason for part in parts for kind, reason in part[state][1].items()}
            rated[state] = {metric.name: values[metric.name] for metric in self.metrics}, faults
            if key is not None:
                self._kept[key] = rated[state]
        faults = {kind: reason for _, found in rated.values() for kind, reason in found.items()}
        return RatedFile(file.name, {state: values for state, (values, _) in rated.items()}, faults, file.group)

    def _check(
        self, name: str, signals: Collection[str], present: Mapping[str, Tensor], far_end: Tensor | None
    ) -> None:
        """Checks that the file has all signals that the metrics need, and that its signals have the same shape."""
        shapes = {kind: list(signal.shape) for kind, signal in present.items()}
        if far_end is not None:
            shapes["far_end"] = list(far_end.shape)
        notes = (f"given: {', '.join(f'{kind} {shape}' for kind, shape in shapes.items()) or 'no signal'}",)
        if "clean" in self._needed and self.reference not in signals:
            message = f"`{name}` can't be rated, because the signals lack the reference `{self.reference}`"
            raise DataError(message, notes=notes, remedy="add it, or choose another `reference`")
        if "noisy" in self._needed and self.noisy not in present:
            message = f"`{name}` can't be rated, because the signals lack `{self.noisy}`, the input of the network"
            raise DataError(message, notes=notes, remedy="add it, or choose another signal as `noisy`")
        # The far-end signal has one channel, even if the other signals have a channel for each speaker.
        lengths = {tuple(shape[-1:]) for shape in shapes.values()}
        if len({tuple(signal.shape) for signal in present.values()}) > 1 or len(lengths) > 1:
            message = f"`{name}` can't be rated, because its signals have different shapes"
            raise DataError(message, notes=notes, remedy="cut all signals to the same length")

    def _inputs(self, file: FileToRate) -> Inputs:
        return {
            "clean": file.signals.get(self.reference),
            "noisy": file.signals.get(self.noisy),
            "far_end": file.far_end,
            "text": file.text,
        }

    def _key(self, file: FileToRate, state: str) -> bytes:
        """Returns a hash of everything that the values of a state depend on."""
        key = hashlib.blake2b(state.encode(), digest_size=16)
        for value in (file.signals[state], *self._inputs(file).values()):
            if isinstance(value, Tensor):
                key.update(f"{value.dtype} {list(value.shape)}".encode())
                key.update(value.flatten().numpy().data)
            else:
                key.update(repr(value).encode())
        return key.digest()

    def _rate(self, file: FileToRate, state: str, metrics: Sequence[Metric]) -> tuple[dict[str, float], dict[str, str]]:
        """Returns the value of each metric for one state, and the faults of the metrics' inputs."""
        signal, inputs = file.signals[state], self._inputs(file)
        found = {needs: self._faults(state, signal, needs, inputs) for needs in map(needs_of, metrics)}
        seed = xxhash.xxh3_64_intdigest(signal.detach().flatten().numpy().data)
        values = {}
        for metric in metrics:
            seed_from(seed)
            faulty = found[needs_of(metric)]
            values[metric.name] = math.nan if faulty else self._value(metric, file.name, signal, inputs)
        return values, {kind: reason for faults in found.values() for kind, reason in faults.items()}

    def _faults(self, state: str, signal: Tensor, needs: tuple[Need, ...], inputs: Inputs) -> dict[str, str]:
        """Returns why metrics with these needs have no value; an empty dict if they have values."""
        names = {"clean": self.reference, "noisy": self.noisy}
        missing = {
            kind: f"{kind} is missing"
            for need in needs
            if inputs.get(need, "") is None
            for kind in [names.get(need, need)]
        }
        if missing:
            return missing
        waves = {names.get(need, need): wave for need in needs if isinstance(wave := inputs.get(need), Tensor)}
        # A silent loudspeaker signal is not a fault, because the far-end speaker may say nothing.
        for kind, wave in waves.items():
            if kind == "far_end" and not all_finite(wave):
                return {kind: f"{kind} is not finite"}
            if kind not in (self.reference, "far_end") and (fault := self._faults_of({kind: wave})):
                return fault
        return self._faults_of({kind: wave for kind, wave in waves.items() if kind == self.reference} | {state: signal})

    def _value(self, metric: Metric, name: str, signal: Tensor, inputs: Inputs) -> float:
        which = f"metric: `{type(metric).__name__}`"
        # A metric may modify its inputs in place, so it gets copies unless it promises not to modify them.
        passed: dict[str, Any] = {"estimate": signal} | {
            need: inputs[need] for need in needs_of(metric) if need in inputs
        }
        if not keeps_signals(metric):
            passed = {key: value.clone() if isinstance(value, Tensor) else value for key, value in passed.items()}
        estimate, reference = passed.pop("estimate"), passed.pop("clean", None)
        call: Callable[..., float] = metric
        try:
            value = call(estimate, reference, sr=self.sr, **passed)
        except AudioZenError:
            raise
        except Exception as error:
            shapes = f"an estimate {list(signal.shape)}"
            if reference is not None:
                shapes = f"two signals {list(signal.shape)}"
            raise RunError.caused_by(
                error,
                f"the metric `{metric.name}` fails for `{name}`:",
                notes=(f"given: {' and '.join((shapes, *passed))} at {self.sr} Hz", which),
                remedy="remove the metric from [trainer.args], or correct it",
            ) from error
        number = as_scalar(value)
        if number is None:
            raise RunError(
                f"the metric `{metric.name}` returns {form_of(value)} for `{name}`",
                notes=(which,),
                remedy="return a single number, or NaN if the metric is not defined for the file",
            )
        return float(number)


def faults_of(pair: Mapping[str, Tensor]) -> dict[str, str]:
    """Returns why a signal or a pair of signals is degenerate; an empty dict if it is not degenerate.

    A constant signal counts as silent. Signals that differ only in their gain count as equal.

    Args:
        pair: a signal [..., time] by name, or two signals: first the reference, then the signal to compare with it.

    Returns:
        A dict from the name of the faulty signal to the reason.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> clean = torch.tensor([0.1, -0.2, 0.3])
        >>> faults_of({"clean": clean, "noisy": clean}), faults_of({"clean": 0 * clean, "noisy": clean})
        ({'noisy': 'noisy equals clean'}, {'clean': 'clean is silent'})
    """
    for name, wave in pair.items():
        if not all_finite(wave):
            return {name: f"{name} is not finite"}
    for name, wave in pair.items():
        if bool(constant(wave).any()):
            return {name: f"{name} is silent"}
    if len(pair) == 1:
        return {}
    (reference_name, reference), (name, signal) = pair.items()
    equal = not _differ_in_the_middle(signal, reference) and bool((si_sdr(signal, reference) == math.inf).any())
    return {name: f"{name} equals {reference_name}"} if equal else {}


def _differ_in_the_middle(signal: Tensor, reference: Tensor) -> bool:
    """Returns whether a short stretch proves that two signals [time] differ by more than gain, offset and rounding.

    The function saves time: comparing whole signals takes as long as computing their SI-SDR, and nearly all pairs
    differ clearly.

    The function scales and shifts the stretch of the reference to fit the stretch of the signal as well as possible.
    The error of the whole signal is at least as large as the remaining error of the stretch. If the remaining error
    exceeds the limit that `si_sdr` applies to the whole signal, the signals are therefore different. The limit here is
    four times as high as in `si_sdr`, because this computation also has rounding errors.
    """
    if signal.ndim != 1 or {signal.dtype, reference.dtype} != {torch.float32} or len(signal) != len(reference):
        return False
    begin = max(0, (len(signal) - _STRETCH) // 2)
    stretches = (wave[begin : begin + _STRETCH].double() for wave in (signal, reference))
    part, target = (stretch - stretch.mean() for stretch in stretches)
    rest = part - (part @ target) / (target @ target) * target
    return bool(rest @ rest > 4 * torch.finfo(torch.float32).eps ** 2 * (signal @ signal))


class FaultCache:
    """Caches the results of `faults_of`, because several metrics check the same signals of a file.

    A `FaultCache` keeps the signals in memory, so use a new `FaultCache` for each file.
    """

    def __init__(self) -> None:
        self._found: list[tuple[Mapping[str, Tensor], dict[str, str]]] = []

    def __call__(self, pair: Mapping[str, Tensor]) -> dict[str, str]:
        """Returns the faults of a signal or a pair. The cache identifies signals by `id`, not by their samples."""
        for earlier, faults in self._found:
            if earlier.keys() == pair.keys() and all(earlier[name] is pair[name] for name in pair):
                return faults
        self._found.append((pair, faults_of(pair)))
        return self._found[-1][1]
