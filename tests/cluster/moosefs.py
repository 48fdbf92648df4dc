"""A network file system, MooseFS, that two machines have mounted."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.machines import Machine

TOOLS = Path(os.environ.get("AUDIOZEN_CLUSTER_TOOLS", Path.cwd() / ".venv/cluster"))

_MASTER = """\
WORKING_USER = root
WORKING_GROUP = root
DATA_PATH = {folder}/master
EXPORTS_FILENAME = {folder}/exports
LOCK_MEMORY = 0
"""

_CHUNKS = """\
WORKING_USER = root
WORKING_GROUP = root
DATA_PATH = {folder}/chunkserver
HDD_CONF_FILENAME = {folder}/disks
HDD_LEAVE_SPACE_DEFAULT = 0B
MASTER_HOST = {host}
LOCK_MEMORY = 0
"""


@contextlib.contextmanager
def network_folder(folder: Path, machines: tuple[Machine, Machine]) -> Iterator[tuple[Path, Path]]:
    """Starts MooseFS on the first machine, and mounts it on both.

    Args:
        folder: an empty folder for its data.
        machines: the machines.

    Yields:
        The mount point of each machine. Processes outside of the machines reach both of them.
    """
    if not (TOOLS / "usr/sbin/mfsmaster").exists():
        pytest.skip("MooseFS is not installed: see tests/cluster/install.sh")
    if not Path("/dev/fuse").exists():
        pytest.skip("this system has no FUSE")
    host = machines[0]
    for name in ("master", "chunkserver", "data", "a", "b"):
        (folder / name).mkdir()
    shutil.copy(TOOLS / "var/lib/mfs/metadata.mfs.empty", folder / "master/metadata.mfs")
    (folder / "exports").write_text("* / rw,alldirs,admin,maproot=0:0\n")
    (folder / "disks").write_text(f"{folder}/data\n")
    (folder / "master.cfg").write_text(_MASTER.format(folder=folder))
    (folder / "chunks.cfg").write_text(_CHUNKS.format(folder=folder, host=host.address))
    mounts = folder / "a", folder / "b"
    started = []
    try:
        with (folder / "output").open("w") as output:
            for server, config in (("mfsmaster", "master.cfg"), ("mfschunkserver", "chunks.cfg")):
                command = [*host.within, TOOLS / "usr/sbin" / server, "-f", "-c", folder / config]
                started.append(subprocess.Popen([*map(str, command), "start"], stdout=output, stderr=output))
            for machine, mount in zip(machines, mounts, strict=True):
                started.append(_mounted(machine, mount, host, output))
        yield mounts
    finally:
        for mount in mounts:
            subprocess.run(["umount", "--lazy", str(mount)], check=False, capture_output=True)
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            process.wait()


def _mounted(machine: Machine, mount: Path, host: Machine, output: object) -> subprocess.Popen[bytes]:
    """Mounts the file system, and waits until it can be written to, which needs a chunk server."""
    command = [*machine.within, str(TOOLS / "usr/bin/mfsmount"), "-f", "-H", host.address]
    libraries = f"{TOOLS}/lib/x86_64-linux-gnu:{TOOLS}/usr/lib/x86_64-linux-gnu"
    environ = {**os.environ, "LD_LIBRARY_PATH": libraries}
    end = time.monotonic() + 60
    while True:
        process = subprocess.Popen([*command, str(mount)], env=environ, stdout=output, stderr=output)  # type: ignore
        while process.poll() is None:
            with contextlib.suppress(OSError):
                if mount.is_mount():
                    (mount / f"probe {machine.name}").write_bytes(b"\0")
                    return process
            time.sleep(0.1)
        # The master needs a moment before it can be reached.
        assert time.monotonic() < end, (mount.parent / "output").read_text()
        time.sleep(0.2)
