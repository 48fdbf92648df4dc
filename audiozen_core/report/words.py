"""Writes phrases that describe differences: better or worse, by how much, and whether the difference is certain."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from audiozen_core.results.paired import SIGNIFICANT, PairedDifference
from audiozen_core.results.records import MetricInfo
from audiozen_core.results.rounding import fixed, signed


def amount(value: float, metric: MetricInfo, decimals: int) -> str:
    """Formats a number with the unit of a metric.

    Example:
        >>> amount(0.417, MetricInfo("si_sdr", unit="dB"), 2)
        '0.42 dB'
    """
    return f"{fixed(value, decimals)}{f' {metric.unit}' * bool(metric.unit)}"


def range_words(low: float, high: float, decimals: int) -> str:
    """Formats an interval as `low to high`; "" if it is not finite.

    Example:
        >>> range_words(-0.1, 0.14, 2)
        '\u22120.10 to 0.14'
    """
    return minus(f"{fixed(low, decimals)} to {fixed(high, decimals)}") if math.isfinite(low) else ""


def minus(text: str) -> str:
    """Replaces hyphens in a number with minus signs, which are as wide as plus signs."""
    return text.replace("-", "\u2212")


def p_words(p: float) -> str:
    """Formats a p-value as in a paper.

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
    """Returns the number of decimals for a difference, which gives it at least two significant digits if possible.

    The result is between `decimals`, the number of decimals of the means, and `decimals + 3`.

    Example:
        >>> decimals_for(0.93, 2), decimals_for(0.086, 2), decimals_for(0.0009, 2), decimals_for(0, 2)
        (2, 3, 5, 2)
    """
    if not difference or not math.isfinite(difference):
        return decimals
    return max(decimals, min(decimals + 3, 1 - math.floor(math.log10(abs(difference)))))


def size_words(difference: float, metric: MetricInfo, decimals: int) -> str:
    """Formats the absolute value of a difference with its unit.

    Args:
        difference: the difference.
        metric: the metric.
        decimals: the number of decimals of the means of the metric.
    """
    return amount(abs(difference), metric, decimals_for(difference, decimals))


def difference_words(paired: PairedDifference, metric: MetricInfo, decimals: int) -> str:
    """Describes the difference of a system from the first system.

    `better by` and `worse by` are followed by positive numbers: if a word error rate is 0.02 lower, it is better by
    0.02.

    Args:
        paired: the difference.
        metric: the metric.
        decimals: the number of decimals of the means of the metric.
    """
    if not paired.files:
        return "no file has a value in both systems"
    if paired.equal == paired.files:
        return "the same for every file"
    decimals = decimals_for(paired.mean, decimals)
    if paired.verdict:
        sign = 1 if paired.mean > 0 else -1
        ends = sorted((sign * paired.low, sign * paired.high))
        interval = range_words(ends[0], ends[1], decimals)
        size = amount(abs(paired.mean), metric, decimals)
        return f"{paired.verdict} by {size}{f' ({interval})' * bool(interval)}, certain"
    interval = range_words(paired.low, paired.high, decimals)
    unit = f" {metric.unit}" if metric.unit else ""
    return f"not certain: {minus(signed(paired.mean, decimals))}{unit}{f' ({interval})' * bool(interval)}"


def headline(name: str, base: str, rows: Iterable[tuple[PairedDifference, MetricInfo, int]]) -> str:
    """Describes in one to three sentences in which metrics a system is better or worse than the first system.

    Args:
        name: the name of the system.
        base: the name of the first system.
        rows: for each metric, the difference, the metric, and the number of decimals of its means.
    """
    parts: dict[str, list[str]] = {"better": [], "worse": [], "same": [], "": []}
    for paired, metric, decimals in rows:
        label = metric.label or metric.name
        if paired.verdict:
            parts[paired.verdict].append(f"{label} (by {size_words(paired.mean, metric, decimals)})")
        else:
            parts["same" if paired.equal == paired.files else ""].append(label)
    certain = [f"{word} than {base} in {join_words(parts[word])}" for word in ("better", "worse") if parts[word]]
    between = f" between {name} and {base}" * (not certain)
    sentences = [f"{name} is certainly {' and '.join(certain)}."] if certain else []
    if parts[""]:
        sentences.append(f"No certain difference{between} in {join_words(parts[''])}.")
    if parts["same"]:
        sentences.append(f"{name} and {base} are the same in {join_words(parts['same'])} for every file.")
    return " ".join(sentences)


def join_words(words: Sequence[str]) -> str:
    """Joins words with commas and `and`.

    Example:
        >>> join_words(["a"]), join_words(["a", "b", "c"])
        ('a', 'a, b and c')
    """
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


CERTAIN = (
    "A difference is called certain if the p-value of a paired permutation test over the files, corrected by Holm's "
    f"method for all tests of the table, is below {SIGNIFICANT}. With several seeds, the interval over files and seeds "
    "must also exclude zero."
)
"""The explanation of the word `certain` in the page."""


def format_duration(seconds: float) -> str:
    """Formats a duration with its two largest units.

    Example:
        >>> format_duration(59.4), format_duration(3661), format_duration(90061), format_duration(0.25)
        ('59 s', '1 h 1 min', '1 d 1 h', '0.2 s')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    units = [("d", whole // 86400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60), ("s", whole % 60)]
    first = next((place for place, (_, count) in enumerate(units) if count), 3)
    return " ".join(f"{count} {unit}" for unit, count in units[first : first + 2] if count)
