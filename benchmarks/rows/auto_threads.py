"""Compares the number of threads that `num_threads = "auto"` chooses with two fixed numbers of threads.

The fixed numbers are one thread and one thread for each processor. The wall-clock time of a training step is measured,
because CPU time does not show that threads wait for each other. The number is chosen as at the start of a run, with two
differences: choices that were stored by earlier runs are ignored, and so is the load of the last minute, to which
earlier rows belong. If other programs disturb the measurement, `auto` means one thread, whatever would be faster a
moment later. The row then says so and has no goal.
"""

from __future__ import annotations

from functools import partial

import torch

from audiozen_core.distributed.cpus import usable_cpus
from audiozen_core.experiment.threads import disturbed_reason, fastest_count, thread_counts, time_threads
from audiozen_plugins.model.sdnn import SDNN
from benchmarks.measuring import Goal, Row, compare, seconds

BATCH, FRAMES = 4, 250


def rows(rounds: int = 7) -> list[Row]:
    """Measures one row. The peer is the faster of the two fixed numbers."""
    torch.manual_seed(0)
    torch.set_flush_denormal(True)
    network = SDNN()
    magnitude = torch.rand(BATCH, network.num_freqs, FRAMES)

    def step() -> None:
        network.zero_grad()
        network(magnitude).square().mean().backward()

    counts = thread_counts(usable_cpus())
    times = time_threads(step, counts)
    busy = disturbed_reason(times)
    chosen = 1 if busy else fastest_count(times.best)

    def with_threads(count: int) -> float:
        torch.set_num_threads(count)
        return seconds(step)

    return [
        compare(
            f'an SDNN step with num_threads = "auto", which is {chosen}{" on a busy machine" if busy else ""}',
            lambda: with_threads(chosen),
            {f"num_threads = {count}": partial(with_threads, count) for count in {1, counts[-1]}},
            unit="ms a step",
            scale=1000,
            goal=None if busy else Goal("at most", 1.1),
            rounds=rounds,
        )
    ]
