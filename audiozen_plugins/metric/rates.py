"""Checks the sample rate that a metric is defined for."""

from __future__ import annotations

from collections.abc import Collection

from audiozen_core.audio.resampling import resample as resampled
from audiozen_core.errors import DataError

__all__ = ["check_rate", "resampled"]


def check_rate(label: str, name: str, sr: int, rates: Collection[int], *, resamples: bool) -> None:
    """Checks that a metric supports the sample rate of a file.

    Args:
        label: the label of the metric.
        name: the name of the metric in a TOML file.
        sr: the sample rate of the file, in hertz.
        rates: the sample rates that the metric supports, in hertz.
        resamples: whether the metric has an argument `resample`. The remedy in the error then suggests this argument.

    Raises:
        DataError: the metric does not support the sample rate.
    """
    if sr in rates:
        return
    remedy = f"remove `{name}` from the `metrics` of the trainer, or resample the data"
    if resamples:
        remedy = (
            f'rate a resampled copy: `{{ path = "{name}", args = {{ resample = true }} }}` in the `metrics` of the '
            f"trainer; or remove `{name}` from them"
        )
    wanted = " or ".join(map(str, rates))
    raise DataError(f"{label} needs {wanted} Hz, but the audio has {sr} Hz", remedy=remedy)
