"""Measures how long the communication between ranks takes, for several numbers of processes on this machine.

    python benchmarks/ranks.py --processes 2 4 8 16

For each number of processes, the script prints how long it takes to connect all processes, and the time of three
operations: an `exchange` (one in each step), a `gather` of 1 kB (a few in each epoch), and an all-reduce of the
gradients with gloo. The time of an operation is the median on the slowest rank.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable


def median_ms(repeats: int, call: Callable[[], object]) -> float:
    """Returns the median time of a call in milliseconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times)


def run_rank(started: float, megabytes: int) -> None:
    """Measures on one rank. Rank 0 prints, as JSON, the longest time of each operation over all ranks."""
    import torch
    import torch.distributed as dist

    from audiozen_core.distributed.join import joined_ranks
    from audiozen_core.distributed.settings import Distributed

    torch.set_num_threads(1)
    with joined_ranks(Distributed(), "cpu") as ranks:
        own = [time.time() - started]
        gradients = torch.zeros(megabytes * 1_000_000 // 4)
        ranks.wait()
        own.append(median_ms(300, lambda: ranks.exchange("turn", 0, 1, 8)))
        own.append(median_ms(50, lambda: ranks.gather("x" * 1000)))
        own.append(median_ms(5, lambda: dist.all_reduce(gradients)))
        every = ranks.gather(own)
        if ranks.is_main:
            print(json.dumps([max(column) for column in zip(*every, strict=True)]))


def measure(processes: int, megabytes: int) -> list[float]:
    """Starts the ranks, and returns the times that rank 0 prints.

    Raises:
        RuntimeError: a rank has failed.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    command = [sys.executable, __file__, "--started", str(time.time()), "--megabytes", str(megabytes)]
    ranks = []
    for rank in range(processes):
        variables = {**place, "RANK": rank, "LOCAL_RANK": rank}
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
        ranks.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    said = [rank.communicate()[0] for rank in ranks]
    if any(rank.returncode for rank in ranks):
        raise RuntimeError("a rank has failed")
    values: list[float] = json.loads(said[0])
    return values


def main() -> None:
    """Prints a line for each number of processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4], help="process counts (default: 2 4)")
    parser.add_argument("--megabytes", type=int, default=40, help="the size of the gradients (default: %(default)s)")
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.started:
        run_rank(options.started, options.megabytes)
        return
    print(f"processes  connected   exchange     gather  all-reduce of {options.megabytes} MB")
    for processes in options.processes:
        connected, exchange, gather, reduce = measure(processes, options.megabytes)
        print(f"{processes:9}  {connected:7.2f} s {exchange:7.2f} ms {gather:7.2f} ms  {reduce:7.1f} ms", flush=True)


if __name__ == "__main__":
    main()
