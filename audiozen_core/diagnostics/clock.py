"""Formats durations."""

from __future__ import annotations


def clock(seconds: float) -> str:
    """Returns a duration in hours, minutes and seconds.

    Example:
        >>> clock(59.7), clock(90_061)
        ('0:01:00', '25:01:01')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
