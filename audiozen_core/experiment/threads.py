"""Measures with how many threads of torch a forward and backward pass is fastest.

Threads wait for each other after each operation. If another program prevents one thread from running, all threads wait,
and training can become many times slower than with one thread. Several threads are therefore chosen only if they are
much faster than one, and only if the machine is idle during the measurement.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

import torch

WORTHWHILE = 1.3
"""Several threads are chosen only if they are at least this many times as fast as one thread."""

# A number of threads is not timed again if a pass takes more than this many times as long as with the fastest number.
_HOPELESS = 3.0
# A number of threads is not ruled out if the first pass took at most this many seconds, because the first pass also
# starts threads and allocates memory.
_QUICK = 0.1
# If several numbers of threads are nearly as fast as the fastest, within this factor, the smallest of them is chosen,
# to leave processors to other programs.
_NEARLY_AS_FAST = 1.1
# The measurement was disturbed if the median pass with one thread took more than this many times as long as the fastest
# pass with one thread.
_DISTURBED = 1.5
# The machine is busy if its load exceeds this share of its processors.
_BUSY_SHARE = 0.25


def time_threads(
    run: Callable[[], object],
    counts: Sequence[int],
    *,
    rounds: int = 4,
    seconds: float = 20.0,
    warm_up: bool = True,
) -> dict[int, list[float]]:
    """Times a pass with each number of threads. The numbers take turns, so that a disturbance affects all numbers.

    Afterwards torch has its previous number of threads again.

    Args:
        run: runs the pass.
        counts: the numbers of threads.
        rounds: how often each number of threads is timed.
        seconds: the time in seconds after which no further round begins. At least one round is completed.
        warm_up: whether to run an extra round first, which starts the threads and rules out numbers of threads that are
            far too slow.

    Returns:
        The seconds of each pass, by number of threads. Numbers that were ruled out as far too slow have fewer passes.
    """
    before = torch.get_num_threads()
    times: dict[int, list[float]] = {count: [] for count in counts}
    began = perf_counter()
    try:
        for number in range(0 if warm_up else 1, rounds + 1):
            for count in counts:
                best = min((min(passes) for passes in times.values() if passes), default=float("inf"))
                if times[count] and min(times[count]) > _HOPELESS * best:
                    continue
                torch.set_num_threads(count)
                started = perf_counter()
                run()
                times[count].append(perf_counter() - started)
            if number == 0:
                best = min(passes[0] for passes in times.values())
                hopeless = {count for count, passes in times.items() if passes[0] > max(_HOPELESS * best, _QUICK)}
                times = {count: passes if count in hopeless else [] for count, passes in times.items()}
            elif perf_counter() - began > seconds:
                break
    finally:
        torch.set_num_threads(before)
    return times


def fastest_count(times: Mapping[int, Sequence[float]]) -> int:
    """Returns the number of threads to use: 1, unless another number is much faster.

    Example:
        >>> fastest_count({1: [1.0, 1.1], 2: [0.9, 0.9]}), fastest_count({1: [1.0], 2: [0.55], 4: [0.35], 8: [0.34]})
        (1, 4)
    """
    best = {count: min(passes) for count, passes in times.items()}
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


def disturbed_reason(times: Mapping[int, Sequence[float]]) -> str:
    """Returns a message if passes with one thread took very different times; otherwise "".

    >>> disturbed_reason({1: [1.0, 1.1, 1.2], 2: [9.0]}), disturbed_reason({1: [1.0, 1.8, 2.0]})
    ('', 'the machine is busy: equal passes with one thread took 1.000 to 2.000 s')
    """
    passes = times[1]
    if statistics.median(passes) <= _DISTURBED * min(passes):
        return ""
    return f"the machine is busy: equal passes with one thread took {min(passes):.3f} to {max(passes):.3f} s"
