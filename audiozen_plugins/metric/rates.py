"""Signals at the sample rate that a metric is defined for."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from audiozen_core.errors import DataError
from audiozen_core.registry import torchaudio_loader


def check_rate(label: str, name: str, sr: int, rates: Collection[int], *, resamples: bool) -> None:
    """Checks the sample rate of a file that a metric is to rate.

    Args:
        label: the label of the metric.
        name: its path in a TOML file.
        sr: the rate of the file, in hertz.
        rates: the rates that the metric takes, in hertz.
        resamples: whether the metric has an argument `resample`, which the error then names.

    Raises:
        DataError: the metric does not take the rate.
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


def resampled(signal: Tensor, sr: int, to: int) -> Tensor:
    """Returns a signal [time] at another rate in hertz, by `torchaudio.functional.resample` with a Kaiser window.

    The filter is sharp, the "kaiser best" of librosa: at 16 kHz it keeps what is below 7 kHz, and attenuates aliases by
    over 55 dB.
    """
    if sr == to:
        return signal
    torchaudio_loader.install()
    # torchaudio takes long to import, and is needed only here.
    from torchaudio.functional import resample

    result: Tensor = resample(
        signal.float(),
        sr,
        to,
        lowpass_filter_width=64,
        rolloff=0.9476,
        resampling_method="sinc_interp_kaiser",
        beta=14.77,
    )
    return result
