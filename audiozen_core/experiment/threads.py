"""How many threads of torch make a pass fastest.

Threads wait for each other after each operation. If another program keeps one of them from running, all wait, and a
training can become many times slower than with one thread. So several threads must gain a good deal, on a machine that
has nothing else to do.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

import torch

WORTHWHILE = 1.3
"""Several threads should be this many times as fast as one."""

# A count is not tried again if it took this many times as long as the best one.
_HOPELESS = 3.0
# The first pass starts threads and allocates memory, so that one that took less seconds does not tell what is hopeless.
_QUICK = 0.1
# A larger count than needed gains less than this, and takes threads from other programs.
_NEARLY_AS_FAST = 1.1
# Passes with one thread that differ by more than this were disturbed.
_DISTURBED = 1.5
# A machine with more waiting programs than this share of its processors is busy.
_BUSY_SHARE = 0.25


def time_threads(
    run: Callable[[], object],
    counts: Sequence[int],
    *,
    rounds: int = 4,
    seconds: float = 20.0,
    warm_up: bool = True,
) -> dict[int, list[float]]:
    """Runs a pass with each number of threads, in turns, so that a disturbance does not hit one number alone.

    The number of threads of torch is the same afterwards.

    Args:
        run: runs the pass.
        counts: the numbers of threads.
        rounds: how often each number is timed.
        seconds: the time after which no further round begins; one is always complete.
        warm_up: whether a round before the first one starts the threads, and shows which numbers are hopeless.

    Returns:
        The seconds of the passes, by number of threads. A number that is far slower than another one has fewer of them.
    """
    before = torch.get_num_threads()
    times: dict[int, list[float]] = {count: [] for count in counts}
    began = perf_counter()
    try:
        for number in range(0 if warm_up else 1, rounds + 1):
            for count in counts:
                best = min((min(of) for of in times.values() if of), default=float("inf"))
                if times[count] and min(times[count]) > _HOPELESS * best:
                    continue
                torch.set_num_threads(count)
                started = perf_counter()
                run()
                times[count].append(perf_counter() - started)
            if number == 0:
                best = min(of[0] for of in times.values())
                hopeless = {count for count, of in times.items() if of[0] > max(_HOPELESS * best, _QUICK)}
                times = {count: of if count in hopeless else [] for count, of in times.items()}
            elif perf_counter() - began > seconds:
                break
    finally:
        torch.set_num_threads(before)
    return times


def fastest_count(times: Mapping[int, Sequence[float]]) -> int:
    """Returns the number of threads to use: 1, unless another one is a good deal faster.

    Example:
        >>> fastest_count({1: [1.0, 1.1], 2: [0.9, 0.9]}), fastest_count({1: [1.0], 2: [0.55], 4: [0.35], 8: [0.34]})
        (1, 4)
    """
    best = {count: min(of) for count, of in times.items()}
    fastest = min(best.values())
    if best[1] < WORTHWHILE * fastest:
        return 1
    return min(count for count, of in best.items() if of <= _NEARLY_AS_FAST * fastest)


def thread_counts(cores: int) -> list[int]:
    """Returns the numbers of threads to try: 1, 2, 4, … and as many as there are cores.

    >>> thread_counts(1), thread_counts(6), thread_counts(8)
    ([1], [1, 2, 4, 6], [1, 2, 4, 8])
    """
    powers = [2**power for power in range(cores.bit_length())]
    return sorted({count for count in powers if count <= cores} | {cores})


def busy_reason(load: Callable[[], tuple[float, float, float]] | None = None, processors: int | None = None) -> str:
    """Says in words that the machine has other things to do; "" if it has not, or if that is not known.

    Args:
        load: returns the load averages; those of this machine by default.
        processors: how many processors the machine has; by default those of this one.

    >>> busy_reason(lambda: (0.3, 2.0, 2.0), 2), busy_reason(lambda: (1.4, 0.0, 0.0), 2)
    ('', 'the machine is busy: 1.4 programs ran or waited in the last minute')
    """
    try:
        running = (load or os.getloadavg)()[0]
    except (OSError, AttributeError):  # not on every system
        return ""
    if running <= _BUSY_SHARE * (processors or os.cpu_count() or 1):
        return ""
    return f"the machine is busy: {running:.1f} programs ran or waited in the last minute"


def disturbed_reason(times: Mapping[int, Sequence[float]]) -> str:
    """Says in words that equal passes took different times; "" if they did not.

    >>> disturbed_reason({1: [1.0, 1.1, 1.2], 2: [9.0]}), disturbed_reason({1: [1.0, 1.8, 2.0]})
    ('', 'the machine is busy: equal passes with one thread took 1.000 to 2.000 s')
    """
    one = times[1]
    if statistics.median(one) <= _DISTURBED * min(one):
        return ""
    return f"the machine is busy: equal passes with one thread took {min(one):.3f} to {max(one):.3f} s"
