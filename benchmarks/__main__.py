"""Compares AudioZEN with other libraries (its peers), and prints a table.

    python -m benchmarks [ROW ...] [--rounds N] [--json FILE] [--markdown FILE]

ROW is the name of a module in `benchmarks/rows`. Its docstring says what it compares, and it may measure several rows
of the table. Each module runs in its own process, on one thread, for at most five minutes. In each round, AudioZEN and
its peers are measured in turn. The ratio of both costs is computed for each round, or their difference, if the goal is
about the difference. The table shows medians over the rounds and, in brackets, the quartiles. The extras `bench` and
`pesq` install the peers.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import pkgutil
import platform
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from audiozen_core.storage.atomic import write_whole
from benchmarks import rows, table

REPOSITORY = Path(__file__).resolve().parent.parent
ROW_SECONDS = 300  # a module that hangs is stopped after this time
ONE_THREAD = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA")}


def measure(name: str, rounds: int | None) -> list[dict[str, Any]]:
    """Measures the rows of one module in this process. If `rounds` is None, the module chooses the number of rounds."""
    module = importlib.import_module(f"benchmarks.rows.{name}")
    return [row.as_json() for row in (module.rows() if rounds is None else module.rows(rounds))]


def measure_apart(name: str, rounds: int | None, limit: float = ROW_SECONDS) -> list[dict[str, Any]]:
    """Measures the rows of one module in its own process.

    If the module fails or takes longer than `limit` seconds, the result is one row with the reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "rows.json"
        command = [sys.executable, "-m", "benchmarks", name, "--into", str(result)]
        command += [] if rounds is None else ["--rounds", str(rounds)]
        # In its own session, so that `killpg` also ends the processes that the module has started.
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **ONE_THREAD},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            _, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return [{"what": name, "failed": f"more than {limit:g} s"}]
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        if result.exists():
            measured: list[dict[str, Any]] = json.loads(result.read_text(encoding="utf-8"))
            return measured
        lines = errors.strip().splitlines() or [f"ended with {process.returncode}"]
        return [{"what": name, "failed": lines[-1]}]


def machine() -> dict[str, Any]:
    """Returns what the results depend on: the processor, its cores, their load, and the version of Python."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not an integer of at least 1")
    return int(text)


def _new_file(text: str) -> Path:
    """Checks that a file can be written, so that a wrong path is found before minutes of measuring."""
    path = Path(text)
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"the file {text} can't be written")
    return path


def main() -> None:
    """Measures the rows that the command line names, and prints the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = sorted(module.name for module in pkgutil.iter_modules(rows.__path__))
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"one or more of: {', '.join(names)} (default: all)")
    parser.add_argument("--rounds", type=_positive, help="the number of rounds (default: each module chooses it)")
    parser.add_argument("--json", type=_new_file, help="also write all results to this file")
    parser.add_argument("--markdown", type=_new_file, help="also write the table to this file")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := sorted(set(options.rows) - set(names)):
        parser.error(f"no such row: {', '.join(unknown)}; choose from {', '.join(names)}")
    if options.into:
        options.into.write_text(json.dumps(measure(options.rows[0], options.rounds)), encoding="utf-8")
        return
    measured: list[dict[str, Any]] = []
    console = Console(stderr=True)
    for name in options.rows or names:
        with console.status(f"measuring {name}"):
            measured += [{"row": name, **row} for row in measure_apart(name, options.rounds)]
    Console(width=None if sys.stdout.isatty() else 180).print(table.for_terminal(measured))
    if options.json:
        write_whole(options.json, json.dumps({"machine": machine(), "rows": measured}, indent=2) + "\n")
    if options.markdown:
        write_whole(options.markdown, table.for_page(measured, machine()) + "\n")


if __name__ == "__main__":
    main()
