"""Measures the rows of the table.

A row compares AudioZEN ("ours") with one peer: another library, or another way to do the same work. In each round,
AudioZEN and all peers do the work once, one after the other. The ratio and the difference of the costs are computed for
each round.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

Side = Callable[[], float]
"""Does the work once, with AudioZEN or with a peer, and returns the cost. The unit is the same for both."""


@dataclass(frozen=True)
class Spread:
    """The median of the values of all rounds, and their lower and upper quartile."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float]) -> Spread:
        """Computes the spread of one or more values."""
        if len(values) == 1:
            return cls(values[0], values[0], values[0])
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


@dataclass(frozen=True)
class Goal:
    """The goal of a row: the median of `figure` must be at most `limit`, or at least `limit`."""

    direction: Literal["at most", "at least"]
    limit: float
    figure: Literal["ratio", "difference", "ours"] = "ratio"

    def met_by(self, row: Row) -> bool:
        """Whether the median of a row reaches the goal."""
        value: float = getattr(row, self.figure).median
        return value <= self.limit if self.direction == "at most" else value >= self.limit


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        what: what is compared, as the table shows it.
        unit: the unit of the costs.
        ours: the costs of AudioZEN.
        peer: the costs of the peer.
        peer_name: the name of the peer.
        ratio: the cost of AudioZEN divided by the cost of the peer, for each round.
        difference: the cost of AudioZEN minus the cost of the peer, for each round.
        rounds: the number of rounds.
        goal: the goal; None for a row that is only for information.
    """

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
        """Whether the row reaches its goal; None if it has no goal."""
        return None if self.goal is None else self.goal.met_by(self)

    def as_json(self) -> dict[str, Any]:
        """Returns all values, and whether the goal is reached."""
        return {**asdict(self), "met": self.is_met}


def alternate(
    ours: Side, peers: Mapping[str, Side], *, rounds: int, warm_up: int = 1
) -> tuple[list[float], dict[str, list[float]]]:
    """Measures AudioZEN and its peers in turn. Every other round has the reverse order, so that nobody is always first.

    Args:
        ours: the work, done by AudioZEN.
        peers: the same work, done by each peer, by the name of the peer.
        rounds: the number of rounds that count.
        warm_up: the number of rounds before them, which do not count.

    Returns:
        The costs of AudioZEN in each round, and the costs of each peer in each round.
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
    """Measures a row that compares AudioZEN with the best of several peers.

    Args:
        what: what is compared, as the table shows it.
        ours: the work, done by AudioZEN.
        peers: the same work, done by each peer, by the name of the peer.
        unit: the unit of the printed costs.
        goal: the goal of the row; None for a row that is only for information.
        rounds: the number of rounds that count.
        scale: the factor that converts a cost to `unit`.
        warm_up: the number of rounds before them, which do not count.
        best: whether the best peer has the lowest or the highest median cost.
    """
    own, others = alternate(ours, peers, rounds=rounds, warm_up=warm_up)
    choose = min if best == "lowest" else max
    name = choose(others, key=lambda each: statistics.median(others[each]))
    return row_of(what, own, name, others[name], unit=unit, goal=goal, scale=scale)


def row_of(
    what: str, ours: list[float], peer_name: str, peer: list[float], *, unit: str, goal: Goal | None, scale: float = 1.0
) -> Row:
    """Makes a row from the costs of AudioZEN and of one peer in each round. The other arguments are as in `compare`."""
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
    """Returns the wall-clock time of one call in seconds, as the mean over `number` calls."""
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number


def cpu_seconds(call: Callable[[], object], *, number: int = 1) -> float:
    """Returns the CPU time of one call in this process in seconds, as the mean over `number` calls.

    Other processes hardly affect the CPU time.
    """
    start = time.process_time()
    for _ in range(number):
        call()
    return (time.process_time() - start) / number


def reset_peak() -> int:
    """Resets the peak of this process's resident memory, and returns the memory that is resident now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def peak_memory() -> int:
    """Returns the peak of this process's resident memory since its start or since `reset_peak`, in bytes.

    Child processes don't count. `resource.getrusage` would give a wrong `ru_maxrss`, because its value starts with the
    memory of the parent process.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def printed_bytes(command: Sequence[str], environment: Mapping[str, str] | None = None) -> float:
    """Runs a command that prints a line `memory:<bytes>`, and returns the number in the last such line."""
    ended = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment
    )
    lines = [line for line in ended.stdout.splitlines() if line.startswith("memory:")]
    return float(lines[-1].partition(":")[2])
