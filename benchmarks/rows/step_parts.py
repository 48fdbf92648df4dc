"""Measures how long a training step takes to record the times of its parts. The peer only reads the clock as often."""

from __future__ import annotations

from time import perf_counter

from audiozen_core.trainer.step_clock import StepClock, StepPart
from benchmarks.measuring import Goal, Row, compare, cpu_seconds

# The parts whose start a training step records, in order. `tests/core/trainer/test_step_clock.py` counts them.
MARKS: tuple[StepPart, ...] = (
    *("data", "rest", "transfer", "rest", "forward", "rest", "backward", "rest", "optimizer", "rest"),
)
STEPS = 20_000


def rows(rounds: int = 15) -> list[Row]:
    """Measures one row."""
    clock = StepClock()

    def marks() -> None:
        for part in MARKS:
            clock.begin(part)

    def readings() -> None:
        for _ in MARKS:
            perf_counter()

    return [
        compare(
            "recording where the time of a step goes",
            lambda: cpu_seconds(marks, number=STEPS),
            {"ten readings of the clock": lambda: cpu_seconds(readings, number=STEPS)},
            unit="µs CPU a step",
            scale=1e6,
            goal=Goal("at most", 3, "ours"),
            rounds=rounds,
        )
    ]
