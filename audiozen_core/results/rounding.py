"""Formats the numbers of a comparison."""

from __future__ import annotations

import math
from collections.abc import Iterable

from audiozen_core.results.records import MetricInfo

MARKS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
"""The limits and marks of significance. The first limit above the corrected p-value determines the mark."""


def digits(metric: MetricInfo, means: Iterable[float]) -> int:
    """Returns the number of decimals for the means of a metric: 3 for a ratio such as STOI, 2 for other metrics.

    Example:
        >>> digits(MetricInfo("stoi"), [0.92, 0.95]), digits(MetricInfo("pesq"), [1.97, 2.9])
        (3, 2)
    """
    finite = [abs(mean) for mean in means if math.isfinite(mean)]
    return 3 if not metric.unit and finite and max(finite) <= 1 else 2


def fixed(value: float, decimals: int) -> str:
    """Formats a number with a fixed number of decimals. NaN and infinity become a dash, and zero has no sign.

    Example:
        >>> fixed(-0.001, 2), fixed(math.nan, 2)
        ('0.00', '–')
    """
    if not math.isfinite(value):
        return "–"
    return f"{round(value, decimals) + 0.0:.{decimals}f}"


def signed(value: float, decimals: int) -> str:
    """Formats a number like `fixed`, but with `+` before a positive number.

    Example:
        >>> signed(0.25, 1), signed(-3, 1), signed(0, 1)
        ('+0.2', '-3.0', '0.0')
    """
    text = fixed(value, decimals)
    return f"+{text}" if math.isfinite(value) and float(text) > 0 else text


def interval(low: float, high: float, decimals: int) -> str:
    """Formats an interval in brackets; "" if its lower end is not finite."""
    return f"[{fixed(low, decimals)}, {fixed(high, decimals)}]" if math.isfinite(low) else ""


def p_text(p: float) -> str:
    """Formats a p-value with two significant digits. NaN becomes a dash.

    Example:
        >>> p_text(0.00002), p_text(0.0432), p_text(1)
        ('0.00002', '0.043', '1')
    """
    if math.isnan(p):
        return "–"
    decimals = 1 - math.floor(math.log10(p))
    return f"{p:.{max(0, decimals)}f}".rstrip("0").rstrip(".") if p < 1 else "1"


def mark(verdict: str, p_holm: float) -> str:
    """Returns the asterisks of a significant difference, and "" for other differences."""
    return next((text for limit, text in MARKS if p_holm < limit), "") if verdict else ""
