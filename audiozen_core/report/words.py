"""Differences in words: better or worse, by how much, and whether that is certain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from audiozen_core.results.paired import SIGNIFICANT, PairedDifference
from audiozen_core.results.records import MetricInfo
from audiozen_core.results.rounding import fixed, signed


def amount(value: float, metric: MetricInfo, decimals: int) -> str:
    """Returns a number with its unit.

    Example:
        >>> amount(0.417, MetricInfo("si_sdr", unit="dB"), 2)
        '0.42 dB'
    """
    return f"{fixed(value, decimals)}{f' {metric.unit}' * bool(metric.unit)}"


def range_words(low: float, high: float, decimals: int) -> str:
    """Returns an interval as people say it, with a minus sign where one is; "" if there is none.

    Example:
        >>> range_words(-0.1, 0.14, 2)
        '\u22120.10 to 0.14'
    """
    return minus(f"{fixed(low, decimals)} to {fixed(high, decimals)}") if math.isfinite(low) else ""


def minus(text: str) -> str:
    """Returns a number with a real minus sign, which is as wide as a plus."""
    return text.replace("-", "\u2212")


def p_words(p: float) -> str:
    """Returns a p-value as a paper writes it.

    Example:
        >>> p_words(0.0002), p_words(0.031), p_words(0.412)
        ('p < 0.001', 'p = 0.031', 'p = 0.41')
    """
    if math.isnan(p):
        return "not tested"
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def decimals_for(difference: float, decimals: int) -> int:
    """Returns how many decimals a difference gets: those of the means, or more if it would have less than two digits.

    Example:
        >>> decimals_for(0.93, 2), decimals_for(0.086, 2), decimals_for(0.0009, 2), decimals_for(0, 2)
        (2, 3, 5, 2)
    """
    if not difference or not math.isfinite(difference):
        return decimals
    return max(decimals, min(decimals + 3, 1 - math.floor(math.log10(abs(difference)))))


def size_words(difference: float, metric: MetricInfo, decimals: int) -> str:
    """Returns the size of a difference with its unit.

    Args:
        difference: the difference; its sign is not shown.
        metric: the metric.
        decimals: how many decimals the means of the metric have.
    """
    return amount(abs(difference), metric, decimals_for(difference, decimals))


def difference_words(one: PairedDifference, metric: MetricInfo, decimals: int) -> str:
    """Says in words how a system differs from the first one.

    The numbers are in the direction of the words: a word error rate that is 0.02 lower is better by 0.02.

    Args:
        one: the difference.
        metric: the metric.
        decimals: how many decimals its means have.
    """
    if not one.files:
        return "no file has a value in both"
    if one.equal == one.files:
        return "the same for every file"
    decimals = decimals_for(one.mean, decimals)
    if one.verdict:
        sign = 1 if one.mean > 0 else -1
        ends = sorted((sign * one.low, sign * one.high))
        between = range_words(ends[0], ends[1], decimals)
        size = amount(abs(one.mean), metric, decimals)
        return f"{one.verdict} by {size}{f' ({between})' * bool(between)}, certain"
    between = range_words(one.low, one.high, decimals)
    unit = f" {metric.unit}" if metric.unit else ""
    return f"not certain: {minus(signed(one.mean, decimals))}{unit}{f' ({between})' * bool(between)}"


def headline(name: str, base: str, rows: Iterable[tuple[PairedDifference, MetricInfo, int]]) -> str:
    """Says in one or two sentences in which metrics a system is better and in which it is worse than the first one.

    Args:
        name: the system.
        base: the first one.
        rows: for each metric, the difference, the metric, and how many decimals its means have.
    """
    parts: dict[str, list[str]] = {"better": [], "worse": [], "same": [], "": []}
    for one, metric, decimals in rows:
        label = metric.label or metric.name
        if one.verdict:
            parts[one.verdict].append(f"{label} (by {size_words(one.mean, metric, decimals)})")
        else:
            parts["same" if one.equal == one.files else ""].append(label)
    sure = [f"{word} than {base} in {joined(parts[word])}" for word in ("better", "worse") if parts[word]]
    between = f" between {name} and {base}" * (not sure)
    sentences = [f"{name} is certainly {' and '.join(sure)}."] if sure else []
    if parts[""]:
        sentences.append(f"No certain difference{between} in {joined(parts[''])}.")
    if parts["same"]:
        sentences.append(f"{name} and {base} are the same in {joined(parts['same'])} for every file.")
    return " ".join(sentences)


def joined(words: Sequence[str]) -> str:
    """Returns words as a list in a sentence.

    Example:
        >>> joined(["a"]), joined(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


CERTAIN = (
    "Certain: the p-value of a paired permutation test over the files, corrected by Holm's method for all tests of the "
    f"table, is below {SIGNIFICANT}. With several seeds, the interval over files and seeds does not contain zero "
    "either."
)
"""What `certain` means."""


def plural(count: int, word: str) -> str:
    """Returns a number with its noun.

    Example:
        >>> plural(1, "file"), plural(2, "file")
        ('1 file', '2 files')
    """
    return f"{count:,} {word}{'s' * (count != 1)}"


def duration(seconds: float) -> str:
    """Returns a duration in its two largest units.

    Example:
        >>> duration(59.4), duration(3661), duration(90061), duration(0.25)
        ('59 s', '1 h 1 min', '1 d 1 h', '0.2 s')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    units = [("d", whole // 86400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60), ("s", whole % 60)]
    first = next((place for place, (_, count) in enumerate(units) if count), 3)
    return " ".join(f"{count} {unit}" for unit, count in units[first : first + 2] if count)
