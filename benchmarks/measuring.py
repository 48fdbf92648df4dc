"""How the rows of the table are measured: both sides take turns, and each round has a ratio of its own."""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Side = Callable[[], float]
"""One side of a comparison: does its work once, and returns what it cost, in any unit that both sides share."""


@dataclass(frozen=True)
class Spread:
    """The median of some rounds, and the quartiles around it."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """The spread of at least one value."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Goal:
    """What a row must reach: `figure` is at most, or at least, `limit`."""

    direction: Literal["at most", "at least"]
    limit: float
    figure: Literal["ratio", "difference", "ours"] = "ratio"

    def met_by(self, row: Row) -> bool:
        """Whether the median of a row reaches the goal."""
        value: float = getattr(row, self.figure).median
        return value <= self.limit if self.direction == "at most" else value >= self.limit


@dataclass(frozen=True)
class Row:
    """One row of the table. `ratio` and `difference` compare ours with the peer within each round."""

    what: str
    unit: str
    ours: Spread
    peer: Spread
    peer_name: str
    ratio: Spread
    difference: Spread
    rounds: int
    goal: Goal | None

    @property
    def is_met(self) -> bool | None:
        """Whether the row reaches its goal; None if it has none."""
        return None if self.goal is None else self.goal.met_by(self)

    def as_json(self) -> dict[str, Any]:
        """All figures, with the verdict."""
        return {**asdict(self), "met": self.is_met}


def alternate(
    ours: Side, peers: Mapping[str, Side], *, rounds: int, warm_up: int = 1
) -> tuple[list[float], dict[str, list[float]]]:
    """Lets all sides take turns. Every other round has the reverse order, so that no side always comes first.

    Args:
        ours: our side.
        peers: the other sides, by name.
        rounds: how many rounds count.
        warm_up: how many rounds come before and do not count.

    Returns:
        What each round has cost: ours, and each peer by name.
    """
    sides = {"": ours, **peers}
    costs: dict[str, list[float]] = {name: [] for name in sides}
    for count in range(warm_up + rounds):
        for name in reversed(sides) if count % 2 else sides:
            cost = sides[name]()
            if count >= warm_up:
                costs[name].append(cost)
    return costs.pop(""), costs


def compare(
    what: str,
    ours: Side,
    peers: Mapping[str, Side],
    *,
    unit: str,
    goal: Goal | None,
    rounds: int,
    scale: float = 1.0,
    warm_up: int = 1,
    best: Literal["lowest", "highest"] = "lowest",
) -> Row:
    """Measures one row against the best of its peers.

    Args:
        what: what is compared, as the table says it.
        ours: our side.
        peers: the other sides, by name.
        unit: the unit of the printed figures.
        goal: what the row must reach; None for a row that only informs.
        rounds: how many rounds count.
        scale: what a cost is multiplied with to be in `unit`.
        warm_up: how many rounds come before and do not count.
        best: which peer counts, the one with the lowest or the highest median.
    """
    own, others = alternate(ours, peers, rounds=rounds, warm_up=warm_up)
    choose = min if best == "lowest" else max
    name = choose(others, key=lambda each: statistics.median(others[each]))
    return row_of(what, own, name, others[name], unit=unit, goal=goal, scale=scale)


def row_of(
    what: str, ours: list[float], peer_name: str, peer: list[float], *, unit: str, goal: Goal | None, scale: float = 1.0
) -> Row:
    """Makes a row from what each round has cost, ours and that of one peer; see `compare`."""
    pairs = [(scale * mine, scale * theirs) for mine, theirs in zip(ours, peer, strict=True)]
    return Row(
        what=what,
        unit=unit,
        ours=Spread.of([mine for mine, _ in pairs]),
        peer=Spread.of([theirs for _, theirs in pairs]),
        peer_name=peer_name,
        ratio=Spread.of([mine / theirs for mine, theirs in pairs]),
        difference=Spread.of([mine - theirs for mine, theirs in pairs]),
        rounds=len(pairs),
        goal=goal,
    )


def seconds(call: Callable[[], object], *, number: int = 1) -> float:
    """The seconds of one call, as the mean of some calls in a row."""
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def cpu_seconds(call: Callable[[], object], *, number: int = 1) -> float:
    """The seconds of the processor that one call takes in this process. Other processes hardly disturb them."""
    start = time.process_time()
    for _ in range(number):
        call()
    return (time.process_time() - start) / number


def reset_peak() -> int:
    """Lets the peak of the resident memory of this process begin anew, and returns what is resident now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def peak_memory() -> int:
    """The peak of the resident memory of this process since it began or `reset_peak`, in bytes, without children.

    `ru_maxrss` of `resource` would be wrong: it begins with the memory of the process that has started this one.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def printed_bytes(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Runs a command that measures its own memory, and returns the number that its last `memory:` line has."""
    ended = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment
    )
    lines = [line for line in ended.stdout.splitlines() if line.startswith("memory:")]
    return float(lines[-1].partition(":")[2])
