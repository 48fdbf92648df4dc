"""Measures with how many threads of torch a forward and backward pass is fastest.

Threads wait for each other after each operation. If another program prevents one thread from running, all threads wait,
and training can become many times slower than with one thread. Several threads are therefore chosen only if they are
much faster than one, and only if the machine is idle during the measurement.

A program that uses a single CPU slows down passes with several threads, but not passes with one thread. Times alone
can't tell this from a network that is slow with several threads. So the measurement also asks the kernel of Linux how
long each thread was ready to run but had to wait for a CPU.
"""

from __future__ import annotations

import itertools
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import torch

WORTHWHILE = 1.3
"""Several threads are chosen only if they are at least this many times as fast as one thread."""

# A number of threads is not timed again if a pass takes more than this many times as long as with the fastest number.
_HOPELESS = 3.0
# A number of threads is not ruled out if a pass took at most this many seconds, because a short pass says little.
_QUICK = 0.1
# Short passes are timed for at least this many seconds, so that a short disturbance does not affect most of them.
_LEAST_SECONDS = 1.0
# While other programs disturb most passes, passes are repeated for this many seconds.
_PATIENCE = 5.0
# If several numbers of threads are nearly as fast as the fastest, within this factor, the smallest of them is chosen,
# to leave processors to other programs.
_NEARLY_AS_FAST = 1.1
# The measurement was disturbed if the median pass with one thread took more than this many times as long as the fastest
# pass with one thread.
_DISTURBED = 1.5
# A pass was disturbed if one of its threads waited for a CPU for more than this share of the time. The share is below
# 0.01 on an idle machine, and 0.5 if another program uses one of two CPUs.
_WAITED = 0.1
# The machine is busy if its load exceeds this share of its processors.
_BUSY_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class ThreadTimes:
    """How long forward and backward passes took, by number of threads.

    Attributes:
        seconds: the duration of each pass in seconds.
        waits: for each pass, the longest time that one thread waited for a CPU, as a share of the duration; 0 if the
            system does not tell.
    """

    seconds: dict[int, list[float]]
    waits: dict[int, list[float]]

    @property
    def best(self) -> dict[int, float]:
        """The duration of the fastest pass in seconds, by number of threads."""
        return {count: min(passes) for count, passes in self.seconds.items() if passes}

    def add_pass(self, run: Callable[[], object], count: int) -> None:
        """Runs and times a forward and backward pass with `count` threads."""
        torch.set_num_threads(count)
        before, started = _cpu_waits(), perf_counter()
        run()
        seconds = perf_counter() - started
        waited = max((total - before.get(thread, 0.0) for thread, total in _cpu_waits().items()), default=0.0)
        self.seconds[count].append(seconds)
        self.waits[count].append(waited / max(seconds, 1e-9))

    def hopeless(self) -> set[int]:
        """Returns the numbers of threads that were far too slow in a pass that no other program disturbed.

        The first number is never one of them. The other numbers are compared with it, and only several of its passes
        show whether the measurement was disturbed.
        """
        limit = max(_HOPELESS * min(self.best.values(), default=0.0), _QUICK)
        passes = {count: zip(self.seconds[count], self.waits[count], strict=True) for count in self.seconds}
        undisturbed = {count: [s for s, wait in found if wait <= _WAITED] for count, found in passes.items()}
        _, *others = self.seconds
        return {count for count in others if undisturbed[count] and min(undisturbed[count]) > limit}


def time_threads(
    run: Callable[[], object], counts: Sequence[int], *, rounds: int = 4, seconds: float = 20.0, once: bool = False
) -> ThreadTimes:
    """Times a forward and backward pass with each number of threads.

    The numbers take turns, so that a disturbance affects all numbers.

    Before the first round, an untimed pass with each number of threads starts the threads, and imports and compiles
    whatever the pass needs. `torch.compile` may compile again for each number. The first round rules out numbers of
    threads that are far too slow. Short passes, and passes that other programs disturb, are timed more often.
    Afterwards torch has its previous number of threads again.

    Args:
        run: runs the forward and backward pass.
        counts: the numbers of threads, beginning with the number that the others are compared with.
        rounds: the least number of rounds.
        seconds: the time in seconds, without the untimed passes, after which no further round begins. At least one
            round is completed.
        once: whether to run a single round.

    Returns:
        The times. Numbers of threads that were ruled out as far too slow have fewer passes.
    """
    before = torch.get_num_threads()
    times = ThreadTimes({count: [] for count in counts}, {count: [] for count in counts})
    try:
        for count in counts:
            torch.set_num_threads(count)
            run()
        began = perf_counter()
        for number in range(1, 2) if once else itertools.count(1):
            hopeless = times.hopeless()
            for count in counts:
                if count not in hopeless:
                    times.add_pass(run, count)
            elapsed = perf_counter() - began
            repeats = elapsed < _LEAST_SECONDS or (elapsed < _PATIENCE and disturbed_reason(times))
            if elapsed > seconds or (number >= rounds and not repeats):
                break
    finally:
        torch.set_num_threads(before)
    return times


def _cpu_waits() -> dict[str, float]:
    """Returns how long each thread of this process has waited for a CPU, in seconds; {} if the system does not tell."""
    waits = {}
    with suppress(OSError):
        for thread in Path("/proc/self/task").iterdir():
            # A thread may end while it is looked at. The file has three numbers: nanoseconds on a CPU, nanoseconds
            # ready to run but waiting for a CPU, and the number of turns.
            with suppress(OSError, ValueError, IndexError):
                waits[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return waits


def fastest_count(best: Mapping[int, float]) -> int:
    """Returns the number of threads to use: 1, unless another number is much faster.

    Args:
        best: the duration of the fastest pass in seconds, by number of threads.

    Example:
        >>> fastest_count({1: 1.0, 2: 0.9}), fastest_count({1: 1.0, 2: 0.55, 4: 0.35, 8: 0.34})
        (1, 4)
    """
    fastest = min(best.values())
    if best[1] < WORTHWHILE * fastest:
        return 1
    return min(count for count, seconds in best.items() if seconds <= _NEARLY_AS_FAST * fastest)


def thread_counts(cores: int) -> list[int]:
    """Returns the numbers of threads to try: 1, 2, 4, … and as many as there are cores.

    >>> thread_counts(1), thread_counts(6), thread_counts(8)
    ([1], [1, 2, 4, 6], [1, 2, 4, 8])
    """
    powers = [2**power for power in range(cores.bit_length())]
    return sorted({count for count in powers if count <= cores} | {cores})


def busy_reason(load: Callable[[], tuple[float, float, float]] | None = None, processors: int | None = None) -> str:
    """Returns a message if other programs keep the machine busy; "" if the machine is idle, or if its load is unknown.

    Args:
        load: returns the load averages; by default the load averages of this machine.
        processors: the number of processors; by default the number of processors of this machine.

    >>> busy_reason(lambda: (0.3, 2.0, 2.0), 2), busy_reason(lambda: (1.4, 0.0, 0.0), 2)
    ('', 'the machine is busy: 1.4 programs ran or waited in the last minute')
    """
    try:
        running = (load or os.getloadavg)()[0]
    except (OSError, AttributeError):  # some systems have no load average
        return ""
    if running <= _BUSY_SHARE * (processors or os.cpu_count() or 1):
        return ""
    return f"the machine is busy: {running:.1f} programs ran or waited in the last minute"


def disturbed_reason(times: ThreadTimes) -> str:
    """Returns a message if other programs disturbed the measurement; otherwise "".

    >>> disturbed_reason(ThreadTimes({1: [1.0, 1.1, 1.2], 2: [9.0]}, {1: [0.0, 0.0, 0.2], 2: [0.0]}))
    ''
    >>> disturbed_reason(ThreadTimes({1: [1.0, 1.8, 2.0]}, {1: [0.0, 0.0, 0.0]}))
    'the machine is busy: equal passes with one thread took 1.000 to 2.000 s'
    >>> disturbed_reason(ThreadTimes({1: [1.0, 1.0], 2: [1.0, 2.0]}, {1: [0.0, 0.0], 2: [0.5, 0.4]}))
    'the machine is busy: with 2 threads, a thread waited for a CPU for 45 % of the time'
    """
    for count, waits in times.waits.items():
        if waits and (share := statistics.median(waits)) > _WAITED:
            plural = "s" if count > 1 else ""
            return (
                f"the machine is busy: with {count} thread{plural}, a thread waited for a CPU for {100 * share:.0f} % "
                "of the time"
            )
    passes = times.seconds.get(1) or [0.0]
    if statistics.median(passes) <= _DISTURBED * min(passes):
        return ""
    return f"the machine is busy: equal passes with one thread took {min(passes):.3f} to {max(passes):.3f} s"
