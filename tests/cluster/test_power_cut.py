"""A run on ext4 whose machine loses its power, at any moment, continues from what has reached the disk."""

import fcntl
import os
import random
import shutil
import signal
import struct
import subprocess
from pathlib import Path

import pytest

from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.storage.atomic import write_whole
from tests.core.checkpoint.exactness import difference
from tests.reliability.real_run import make_project, start
from tests.reliability.test_kill import end_of, reads_until, spin, store_of

pytestmark = [pytest.mark.slow, pytest.mark.no_cover]

EPOCHS = 9
# EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH: not even the journal is written any more.
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2


class Disk:
    """An ext4 file system in a file."""

    def __init__(self, folder):
        self.image, self.mount = folder / "disk", folder / "mount"
        self.mount.mkdir()
        with self.image.open("wb") as file:
            file.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", str(self.image)], check=True)

    def plug_in(self):
        # A new device each time. The old one is still in use if another process has copied all mounts meanwhile.
        found = _run("losetup", "--find", "--show", str(self.image))
        self.device = found.stdout.strip()
        if found.returncode or _run("mount", self.device, str(self.mount)).returncode:
            pytest.skip("this system does not allow to mount a file system from a file")

    def cut_power(self):
        """Loses everything that has not been synced. What is written afterwards fails."""
        descriptor = os.open(self.mount, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def unplug(self):
        subprocess.run(["umount", str(self.mount)], check=True)
        _run("losetup", "--detach", self.device)


def _run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def disk(tmp_path):
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("`mkfs.ext4` is not installed: see tests/cluster/install.sh")
    disk = Disk(tmp_path)
    disk.plug_in()
    yield disk
    _run("umount", "--lazy", str(disk.mount))
    _run("losetup", "--detach", disk.device)


def test_run_whose_power_is_cut_many_times_ends_with_the_same_state(tmp_path, disk, record_property):
    chooser, cuts, saved = random.Random(12), 12, 0
    project = make_project(tmp_path / "cut", EPOCHS)
    (project / "exp").symlink_to(disk.mount)
    for _ in range(cuts):
        process = start(project, "--resume")
        # A slow disk needs the time of several steps for a checkpoint. By step 7 the first one has reached the disk,
        # because a save waits for the one before it.
        going = reads_until(process, "step", chooser.randint(1, 8))
        spin(chooser.randrange(2_000_000))
        disk.cut_power()
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate()
        assert process.returncode in (-signal.SIGKILL, 0, 2), errors
        disk.unplug()
        disk.plug_in()
        infos = store_of(project).list()
        assert [info.reason for info in infos if not info.intact] == []
        step = max([info.step for info in infos], default=0)
        assert step >= saved, "a checkpoint that had been on the disk is gone"
        saved = step
        if not going:
            break
    record_property("power cuts", cuts)
    assert saved > 0
    last, whole = start(project, "--resume"), start(make_project(tmp_path / "whole", EPOCHS))
    for process in (last, whole):
        out, errors = process.communicate()
        assert (process.returncode, out.endswith("end\n")) == (0, True), errors
    assert difference(end_of(tmp_path / "whole"), end_of(project)) is None


def save(folder, epoch):
    CheckpointStore(folder).save({"model": {"weight": epoch}}, epoch=epoch, step=epoch, is_best=True, keep=2)


def test_checkpoint_that_has_been_saved_survives_the_next_moment(disk):
    for epoch in range(1, 6):
        save(disk.mount / "checkpoints", epoch)
        disk.cut_power()
        disk.unplug()
        disk.plug_in()
        store = CheckpointStore(disk.mount / "checkpoints")
        assert store.load("latest").epoch == store.load("best").epoch == epoch
        assert all(info.intact for info in store.list())


@pytest.mark.parametrize("synced", [True, False])
def test_this_power_cut_loses_what_is_not_synced(disk, synced, monkeypatch):
    """Negative control: without `fsync`, the same file is gone or empty."""
    save(disk.mount / "checkpoints", 1)
    if not synced:
        monkeypatch.setattr("audiozen_core.storage.atomic.os.fsync", lambda descriptor: None)
    write_whole(disk.mount / "note", "here")
    save(disk.mount / "checkpoints", 2)
    disk.cut_power()
    disk.unplug()
    disk.plug_in()
    note = Path(disk.mount / "note")
    assert (note.exists() and note.read_text() == "here") == synced
    assert CheckpointStore(disk.mount / "checkpoints").load("latest").epoch == 1 + synced
