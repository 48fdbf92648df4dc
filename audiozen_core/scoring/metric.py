"""The interface of a metric."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from torch import Tensor

Need = Literal["clean", "noisy", "far_end", "text", "network"]
"""What a metric may need besides the estimate: the clean waveform, the input of the network, the signal of the
loudspeaker (of an echo), the words that are said, and the network itself while it makes the estimate."""

NEEDS: tuple[Need, ...] = get_args(Need)


class Metric(Protocol):
    """Rates an estimate, usually by comparing it with its reference.

    Attributes:
        name: its name in files, such as `si_sdr`.
        label: its name in tables, such as `SI-SDR`.
        unit: `dB`, or "" if it has no unit.
        higher_is_better: whether a higher number is better.

    The scalars of a metric `x` are `x`, `x_noisy`, `x_gain` and `x_missing` (with the states of the trainer's report in
    place of `noisy`), and no other metric may have one of these.

    An optional attribute `sample_rates`, a tuple of numbers, names the rates in hertz that the metric is defined for.
    Without it, the metric takes any rate. `audiozen check` builds the metrics of a trainer, compares the rates with
    `sr` in `[acoustics]`, and reports a metric that does not take it; a test then leaves the metric out. So a
    constructor should be fast, and open large models when the metric is first called.

    An optional attribute `needs` names what the metric needs besides the estimate, a tuple of `clean`, `noisy`,
    `far_end`, `text` and `network`; without it, `("clean",)`. What it names besides `clean` is passed by keyword:
    `metric(estimate, reference, sr=sr, noisy=noisy, text=text)`. A metric without `clean` in its needs is
    reference-free: it gets None as the reference. It has a value also for a file without a clean signal, or with a
    silent one.

    A metric may change the signals that it is given, because they are copies. The optional attribute `keeps_signals =
    True` says that it never does. It then gets the signals themselves, which saves 230 MB for each signal of an hour at
    16 kHz.

    The optional attributes `packages`, `weights`, `settings` and `computed_at` belong to the identity of a metric,
    which is recorded with its values; see `audiozen.metric.identity_of`.

    The optional attribute `modules`, a tuple of names, says which modules the metric imports when it is first called.
    `audiozen evaluate` imports them before it starts its processes, so that each of them does not have to.

    A metric with `network` in its needs has a method `watch(model)`, which returns a context manager. A test is inside
    it, and calls the metric after each file that the model has enhanced. Only a test has the network.

    A network that a metric has when it is built is switched to evaluation mode, and frozen. A metric that opens one
    later does this itself.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool

    def __call__(self, estimate: Tensor, reference: Tensor, *, sr: int) -> float:
        """Computes the value for one file.

        Args:
            estimate: the waveform to rate, [time], on the CPU.
            reference: the clean waveform, [time], on the CPU; None if the metric does not need it.
            sr: the sample rate, in hertz.

        Returns:
            The value; NaN if it is not defined, for instance PESQ without an utterance.
        """
        ...


def needs_of(metric: Metric) -> tuple[Need, ...]:
    """Returns what a metric needs besides the estimate: its `needs`, or the clean signal.

    Args:
        metric: the metric.

    Example:
        >>> class Loudness:
        ...     needs = ()
        >>> needs_of(Loudness()), needs_of(object())
        ((), ('clean',))
    """
    needs: tuple[Need, ...] = getattr(metric, "needs", ("clean",))
    return needs


def keeps_signals(metric: Metric) -> bool:
    """Returns whether a metric says that it never changes the signals that it is given."""
    return bool(getattr(metric, "keeps_signals", False))
