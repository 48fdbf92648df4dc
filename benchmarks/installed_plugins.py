"""Times commands with a hundred good and all bad plugins of the tests installed, against none installed.

    python benchmarks/installed_plugins.py --rounds 7

The times are those of the CPU, user and system together, of one process for each command. With and without plugins take
turns; the ratio is computed in each round, and the median is printed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from tests.bad_plugins import install_all  # noqa: E402 - the plugins are those of the tests
from tests.tiny_experiment import TinyExperiment  # noqa: E402

COMMANDS = {
    "--help": ["--help"],
    "plugins": ["plugins"],
    "check": ["check", "tiny.toml"],
    "run": ["run", "tiny.toml"],
}
_AUDIOZEN = "import sys; from audiozen_core.cli.main import main; sys.argv[0] = 'audiozen'; main()"


def cpu_seconds(arguments: list[str], site: Path, folder: Path) -> float:
    """Runs a command in a new folder with an experiment, and returns its time on the CPU.

    Raises:
        RuntimeError: the command has failed.
    """
    folder.mkdir()
    TinyExperiment(folder).write()
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{site}"}
    command = [sys.executable, "-c", _AUDIOZEN, *arguments]
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{arguments} failed: {(folder / 'output').read_text()}")
    return usage.ru_utime + usage.ru_stime


def measure(rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Returns, for each command, its times without and with the plugins in each round. A first round is not counted."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        sites = [root / "without", root / "with"]
        for site in sites:
            site.mkdir()
        install_all(sites[1])
        for count in range(rounds + 1):
            for name, arguments in COMMANDS.items():
                # The second of two runs finds more in the caches of the system, so they change places.
                order = sites if count % 2 else sites[::-1]
                found = {site: cpu_seconds(arguments, site, root / f"{count}-{name}-{site.name}") for site in order}
                if count:
                    times[name].append((found[sites[0]], found[sites[1]]))
    return times


def main() -> None:
    """Prints a line for each command: its median times, and the median of the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="how often each command is timed (default: 7)")
    for name, times in measure(parser.parse_args().rounds).items():
        without, with_plugins = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(second / first for first, second in times)
        print(f"{name:<10} {without:8.3f} s without {with_plugins:8.3f} s with {ratio:8.3f} x")


if __name__ == "__main__":
    main()
