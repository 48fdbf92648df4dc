"""Compares the number of threads that `num_threads = "auto"` chooses with two fixed numbers of threads.

The fixed numbers are one thread and one thread for each processor. The wall-clock time of a training step is measured,
because CPU time does not show that threads wait for each other. The number is chosen as at the start of a run, but
choices that were stored by earlier runs are ignored.
"""

from __future__ import annotations

from functools import partial

import torch

from audiozen_core.distributed.cpus import usable_cpus
from audiozen_core.experiment.threads import busy_reason, disturbed_reason, fastest_count, thread_counts, time_threads
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
    times = {} if busy_reason() else time_threads(step, counts)
    chosen = 1 if not times or disturbed_reason(times) else fastest_count(times)

    def with_threads(count: int) -> float:
        torch.set_num_threads(count)
        return seconds(step)

    return [
        compare(
            f'an SDNN step with num_threads = "auto", which is {chosen}',
            lambda: with_threads(chosen),
            {f"num_threads = {count}": partial(with_threads, count) for count in {1, counts[-1]}},
            unit="ms a step",
            scale=1000,
            goal=Goal("at most", 1.1),
            rounds=rounds,
        )
    ]
