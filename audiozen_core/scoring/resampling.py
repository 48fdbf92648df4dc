"""Changes the sample rate of a signal."""

from __future__ import annotations

from torch import Tensor

from audiozen_core.registry import torchaudio_loader


def resample(wave: Tensor, sr: int, to: int) -> Tensor:
    """Resamples a signal with a sharp filter: the "kaiser best" of librosa, by `torchaudio.functional.resample`.

    Everything below 0.87 of the lower Nyquist frequency is kept, and aliases are attenuated by over 55 dB.

    Args:
        wave: the signal, [..., time].
        sr: its sample rate, in hertz.
        to: the sample rate of the result.

    Returns:
        The signal, float32 [..., ceil(time * to / sr)]; the same object if both rates are equal.
    """
    if sr == to:
        return wave
    torchaudio_loader.install()
    from torchaudio.functional import resample as resample_by_torchaudio  # takes long to import

    resampled: Tensor = resample_by_torchaudio(
        wave.float(),
        sr,
        to,
        lowpass_filter_width=64,
        rolloff=0.9476,
        resampling_method="sinc_interp_kaiser",
        beta=14.77,
    )
    return resampled
