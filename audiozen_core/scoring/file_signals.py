"""Reads a rated file and its clean, noisy and far-end files, and compares their rates, lengths, channels and delays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from audiozen_core.audio.files import open_audio
from audiozen_core.audio.resampling import resample
from audiozen_core.scoring.misalignment import Misalignment, find_misalignment
from audiozen_core.scoring.pairing import RATED, PairedFile

REFERENCE = "clean"


@dataclass(frozen=True, slots=True)
class SignalFacts:
    """The properties of the signals of a rated file and its clean, noisy and far-end files.

    Attributes:
        rates: the sample rate of each file in hertz, by role (`enhanced`, `clean`, `noisy`, `far_end`).
        lengths: the number of samples of each file, by role.
        channels: the number of channels of each file, by role.
        misalignment: the delay and the polarity of the enhanced file relative to the clean file.
        refusal: why the file can't be rated; "" if it can be rated.
    """

    rates: Mapping[str, int] = field(default_factory=dict)
    lengths: Mapping[str, int] = field(default_factory=dict)
    channels: Mapping[str, int] = field(default_factory=dict)
    misalignment: Misalignment = field(default_factory=Misalignment)
    refusal: str = ""

    @property
    def sr(self) -> int:
        """The sample rate at which the signals are compared: the lowest rate."""
        return min(self.rates.values())


@dataclass(frozen=True, slots=True)
class SignalOptions:
    """How signals are processed before they are compared.

    Attributes:
        align: whether to remove the delay between the enhanced file and the clean file.
        resample: whether to resample files with different sample rates to the lowest rate.
    """

    align: bool = False
    resample: bool = False


def read_signals(
    file: PairedFile, options: SignalOptions, *, compare: bool = True
) -> tuple[dict[str, Tensor], SignalFacts]:
    """Reads the signals of a rated file and its clean, noisy and far-end files, and cuts them to the same length.

    Signals are resampled and aligned if `options` say so. The channels of a file are averaged. Signals of different
    lengths are cut at the end to the shortest length.

    Args:
        file: the paths of the rated file and its clean, noisy and far-end files.
        options: how signals are processed before they are compared.
        compare: whether to measure the delay and the polarity even if `options.align` is False.

    Returns:
        The signals by role, float32 [time], at the sample rate `facts.sr`; and the facts. If the file can't be rated,
        the dict of signals is empty.

    Raises:
        DataError: a file can't be read, or has a sample that is NaN or infinite.
    """
    rates, lengths, channels = {}, {}, {}
    signals: dict[str, Tensor] = {}
    for kind, path in file.paths.items():
        with open_audio(path) as audio:
            rates[kind], lengths[kind], channels[kind] = audio.info.sr, audio.info.frames, audio.info.channels
            signals[kind] = audio.read()
    facts = SignalFacts(rates, lengths, channels)
    if len(set(rates.values())) > 1:
        if not options.resample:
            listed = " and ".join(f"{kind} {rate} Hz" for kind, rate in rates.items())
            return {}, SignalFacts(rates, lengths, channels, refusal=f"different sample rates ({listed})")
        signals = {kind: resample(signal, rates[kind], facts.sr) for kind, signal in signals.items()}
    misalignment = Misalignment()
    if REFERENCE in signals and (compare or options.align):
        misalignment = find_misalignment(signals[RATED], signals[REFERENCE], facts.sr)
    signals = _cut(signals, delay=misalignment.delay if options.align else 0)
    return signals, SignalFacts(rates, lengths, channels, misalignment)


def _cut(signals: Mapping[str, Tensor], *, delay: int) -> dict[str, Tensor]:
    """Removes the delay of the rated signal, and cuts all signals to the time that they have in common."""
    late, early = max(delay, 0), max(-delay, 0)
    shifted = {kind: signal[late if kind == RATED else early :] for kind, signal in signals.items()}
    shortest = min(map(len, shifted.values()))
    return {kind: signal[:shortest] for kind, signal in shifted.items()}
