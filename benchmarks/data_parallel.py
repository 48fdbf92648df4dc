"""Compares training with several processes and training with one process. Each process has one thread.

    python benchmarks/data_parallel.py --processes 2 --rounds 5

The recipe `mini_denoise/sdnn` is trained for some steps, and every tenth step is recorded. The time of a step is
computed from the times of these records, so the start of the run does not count.

Each round measures both runs. The ratio of a round is the speed with n processes, in samples per second, divided by n
times the speed with one process. A ratio of 1 is perfect scaling. The script also prints the median ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
RECIPE = REPOSITORY / "recipes/mini_denoise/sdnn/baseline.toml"


def seconds_per_step(processes: int, steps: int, folder: Path) -> float:
    """Trains for some steps, and returns the time of one step in seconds.

    Raises:
        RuntimeError: the run has failed.
    """
    settings = {
        "meta.save_dir": f'"{folder}"',
        "+meta.num_threads": 1,
        "trainer.args.max_epochs": 1,
        "+trainer.args.max_steps": steps,
        "+trainer.args.log_interval": 10,
    }
    command = [sys.executable, "-m", "audiozen", "run", str(RECIPE)]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    if processes > 1:
        command += ["--nproc-per-node", str(processes)]
    done = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr)
    records = map(json.loads, (folder / "baseline/metrics.jsonl").read_text(encoding="utf-8").splitlines())
    times = [datetime.fromisoformat(record["time"]) for record in records if "step/loss" in record]
    return (times[-1] - times[0]).total_seconds() / (10 * (len(times) - 1))


def main() -> None:
    """Prints a line for each round, and the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2, help="the number of processes (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=30, help="the number of steps of a run (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="the number of rounds (default: %(default)s)")
    options = parser.parse_args()
    ratios = []
    for number in range(1, options.rounds + 1):
        seconds = {}
        for processes in (1, options.processes):
            with tempfile.TemporaryDirectory() as folder:
                seconds[processes] = seconds_per_step(processes, options.steps, Path(folder))
        ratios.append(seconds[1] / seconds[options.processes])
        times = ", ".join(
            f"{1000 * each:.0f} ms with {count} process{'es' * (count > 1)}" for count, each in seconds.items()
        )
        print(f"round {number}: a step takes {times}; ratio {ratios[-1]:.2f}")
    print(f"median ratio: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
