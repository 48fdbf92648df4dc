"""The interface of a metric."""

from __future__ import annotations

from typing import Literal, Protocol, get_args

from torch import Tensor

Need = Literal["clean", "noisy", "far_end", "text", "network"]
"""What a metric can need besides the estimate: the clean waveform, the network's input (`noisy`), the loudspeaker
signal in echo cancellation (`far_end`), the transcript (`text`), and the network while it computes the estimate."""

NEEDS: tuple[Need, ...] = get_args(Need)


class Metric(Protocol):
    """Rates an estimate, usually by comparing it with its reference.

    Attributes:
        name: the name in files, such as `si_sdr`.
        label: the name in tables, such as `SI-SDR`.
        unit: `dB`, or "" if the metric has no unit.
        higher_is_better: whether a higher number is better.

    A metric `x` records the scalars `x`, `x_noisy`, `x_gain` and `x_missing`. If the trainer's report has states other
    than `noisy` and `enhanced`, their names replace `noisy`. No two metrics may record a scalar with the same name.

    The optional attribute `sample_rates` is a tuple of the sample rates, in hertz, for which the metric is defined.
    Without it, the metric accepts any rate. `audiozen check` builds the metrics of a trainer, and reports each metric
    that does not accept `sr` in `[acoustics]`; a test leaves these metrics out. Because a check builds the metrics, a
    constructor should be fast: load large models when the metric is first called.

    The optional attribute `needs` is a tuple of what the metric needs besides the estimate: `clean`, `noisy`,
    `far_end`, `text` and `network`. The default is `("clean",)`. The signals and the text are passed by keyword, except
    `clean`: `metric(estimate, reference, sr=sr, noisy=noisy, text=text)`. A metric without `clean` in its needs is
    reference-free: it gets None as the reference, and also has a value for a file whose clean signal is missing or
    silent.

    A metric may modify its input signals, because they are copies. A metric with the attribute `keeps_signals = True`
    promises not to modify them, and gets the original signals. This saves 230 MB for each one-hour signal at 16 kHz.

    The optional attributes `packages`, `weights`, `settings` and `computed_at` are part of the metric's identity, which
    is recorded together with the metric's values; see `audiozen.metric.identity_of`.

    The optional attribute `modules` is a tuple of the names of the modules that the metric imports when it is first
    called. `audiozen evaluate` imports these modules once, before it starts its worker processes.

    A metric with `network` in its needs must have a method `watch(model)` that returns a context manager. A test runs
    inside this context, and calls the metric after the model has enhanced each file. Only a test provides the network.

    Networks that a metric holds after its construction are switched to evaluation mode and frozen. A metric that loads
    a network later must switch and freeze the network itself.
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
            The value; NaN if the value is undefined, as PESQ is for a file without an utterance.
        """
        ...


def needs_of(metric: Metric) -> tuple[Need, ...]:
    """Returns what a metric needs besides the estimate: its attribute `needs`, or `("clean",)` by default.

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
    """Returns whether a metric promises not to modify its input signals."""
    return bool(getattr(metric, "keeps_signals", False))
