"""Describes unusual properties of files: one message for each property, with the number of files and some examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from audiozen_core.diagnostics.listed import listed
from audiozen_core.scoring.file_signals import REFERENCE, SignalFacts, SignalOptions
from audiozen_core.scoring.pairing import RATED

_EXAMPLES = 3


def signal_findings(facts: Mapping[str, SignalFacts], options: SignalOptions) -> list[str]:
    """Returns messages about unusual sample rates, lengths, channels, delays and polarities.

    Args:
        facts: the properties of the signals, by the ID of each file that could be read.
        options: how the signals were processed before they were compared.
    """
    return [*_rates(facts, options), *_lengths(facts), *_channels(facts), *_alignment(facts, options)]


def _rates(facts: Mapping[str, SignalFacts], options: SignalOptions) -> Iterator[str]:
    total = len(facts)
    different = {name: file for name, file in facts.items() if len(set(file.rates.values())) > 1}
    if different:
        done = (
            "are compared at the lower rate"
            if options.resample
            else "are not rated, because `--resample` was not given"
        )
        yield (
            f"{len(different)} of {total} files have a different sample rate from their partners and {done}: "
            f"{_examples({name: _by_kind(file.rates) for name, file in different.items()})}"
        )
    rates = Counter(file.rates[RATED] for file in facts.values())
    if len(rates) > 1:
        counted = ", ".join(f"{count} at {rate} Hz" for rate, count in sorted(rates.items()))
        yield f"the files have several sample rates: {counted}"


def _lengths(facts: Mapping[str, SignalFacts]) -> Iterator[str]:
    different = {
        name: _by_kind(file.lengths)
        for name, file in facts.items()
        if len(set(file.rates.values())) == 1 and len(set(file.lengths.values())) > 1
    }
    if different:
        yield (
            f"{len(different)} of {len(facts)} files differ from their partners in length (in samples), and are cut at "
            f"the end to the shortest: {_examples(different)}"
        )


def _channels(facts: Mapping[str, SignalFacts]) -> Iterator[str]:
    several = {name: _by_kind(file.channels) for name, file in facts.items() if max(file.channels.values()) > 1}
    if several:
        yield (
            f"{len(several)} of {len(facts)} files or their partners have several channels; their mean is rated: "
            f"{_examples(several)}"
        )


def _alignment(facts: Mapping[str, SignalFacts], options: SignalOptions) -> Iterator[str]:
    delayed = {name: file for name, file in facts.items() if file.misalignment.delay}
    if delayed:
        done = "they are shifted" if options.align else "`--align` shifts them"
        yield (
            f"{len(delayed)} of {len(facts)} files are not aligned with their {REFERENCE} files; {done}: "
            f"{_examples({name: _delay(file) for name, file in delayed.items()})}"
        )
    inverted = [name for name, file in facts.items() if file.misalignment.inverted]
    if inverted:
        yield (
            f"{len(inverted)} of {len(facts)} files have the opposite polarity to their {REFERENCE} files: "
            f"{listed(inverted, most=_EXAMPLES)}"
        )


def _delay(facts: SignalFacts) -> str:
    delay = facts.misalignment.delay
    return f"{abs(delay)} samples or {1000 * abs(delay) / facts.sr:.1f} ms {'late' if delay > 0 else 'early'}"


def _by_kind(values: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {value}" for kind, value in values.items())


def _examples(described: Mapping[str, str]) -> str:
    return listed((f"{name} ({what})" for name, what in described.items()), most=_EXAMPLES)
