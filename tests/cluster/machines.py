"""Two machines on one: two network namespaces, joined by a cable. Each has its own address and host name."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PORT = 29_400


@dataclass(frozen=True)
class Machine:
    """A machine: the name of its network namespace, of its network interface, and its address."""

    name: str
    interface: str
    address: str

    @property
    def within(self) -> list[str]:
        """What to write before a command so that it uses the network of the machine."""
        return ["nsenter", f"--net=/run/netns/{self.name}"]

    def start(self, *command: str, **environ: str) -> subprocess.Popen[str]:
        """Starts a command on the machine. The process has the ID of the command itself."""
        shell = f'hostname {self.name}; exec "$@"'
        return subprocess.Popen(
            # `ip netns exec` would copy all mounts, so that a file system stays mounted after its `umount`.
            [*self.within, "unshare", "--uts", "sh", "-c", shell, "sh", *command],
            env={**os.environ, "OMP_NUM_THREADS": "1", **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, file: Path, *options: str) -> subprocess.Popen[str]:
        """Starts `audiozen run` on the machine."""
        return self.start(sys.executable, "-m", "audiozen", "run", str(file), *options)

    def pull_cable(self) -> None:
        """Takes the network interface of the machine down."""
        _ip("-n", self.name, "link", "set", self.interface, "down")


@dataclass(frozen=True)
class Ended:
    """How a command has ended.

    Attributes:
        code: its exit code.
        printed: what it has printed on standard error.
        seconds: when it ended, in seconds after the moment that the test names.
    """

    code: int
    printed: str
    seconds: float


@contextlib.contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Makes two machines, and removes them with all processes that still run there.

    The test is skipped where that is not possible.
    """
    for program in ("ip", "nsenter", "unshare"):
        if shutil.which(program) is None:
            pytest.skip(f"`{program}` is not installed: see tests/cluster/install.sh")
    own = os.getpid()
    machines = [Machine(f"az{own}{end}", f"az{own}{end}", f"10.99.0.{n}") for n, end in ((1, "a"), (2, "b"))]
    first, second = machines
    if (made := _ip("netns", "add", first.name, check=False)).returncode:
        pytest.skip(f"this system does not allow a new network namespace: {made.stderr.strip()}")
    try:
        _ip("netns", "add", second.name)
        _ip("link", "add", first.interface, "netns", first.name, "type", "veth", "peer", "name", second.interface,
            "netns", second.name)  # fmt: skip
        for machine in machines:
            _ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", machine.interface)
            _ip("-n", machine.name, "link", "set", machine.interface, "up")
            _ip("-n", machine.name, "link", "set", "lo", "up")
        yield first, second
    finally:
        for machine in machines:
            for pid in _ip("netns", "pids", machine.name, check=False).stdout.split():
                with contextlib.suppress(OSError):
                    os.kill(int(pid), signal.SIGKILL)
            _ip("netns", "del", machine.name, check=False)


def ends(processes: list[subprocess.Popen[str]], since: float) -> list[Ended]:
    """Waits for commands, and returns how each has ended; `since` is a time of `time.monotonic()`."""
    found: dict[int, float] = {}
    while len(found) < len(processes):
        for index, process in enumerate(processes):
            if index not in found and process.poll() is not None:
                found[index] = time.monotonic() - since
        time.sleep(0.05)
    return [
        Ended(process.returncode, process.communicate()[1], found[index]) for index, process in enumerate(processes)
    ]


def _ip(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=check)
