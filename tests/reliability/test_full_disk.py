"""A run on a full file system continues, loses no record, and saves again once there is space."""

import json
import subprocess

import pytest

from audiozen_core.checkpoint.store import CheckpointStore
from tests.reliability.real_run import STEPS_PER_EPOCH, make_project, start

# Other tests cover the same code. Measuring the coverage here too would take longer than the tests themselves.
pytestmark = pytest.mark.no_cover

FILLS = """

class Fills:
    phase = "precision"

    def __init__(self, full_from, free_from):
        self.full_from, self.free_from = full_from, free_from

    @hookimpl
    def on_epoch_start(self, trainer, epoch):
        balloon = trainer.folder.parent / "balloon"
        if epoch == self.full_from:
            with balloon.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(4096))
                except OSError:
                    report("full")
        if epoch == self.free_from:
            balloon.unlink()
            report("free")
"""


# Saves are synchronous, so that each save is complete before the disk is filled.
CHANGES = ("save_ckpt_interval_steps=999", "max_num_checkpoints=99", "save_ckpt_async=false")
ONCE_AN_EPOCH = [part for change in CHANGES for part in ("--set", f"trainer.args.{change}")]


@pytest.fixture
def project(tmp_path):
    """Creates a project that writes into a file system of eight megabytes."""
    project = make_project(tmp_path / "project", epochs=6)
    (project / "exp").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(project / "exp")]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the permission to mount a file system")
    yield project
    subprocess.run(["umount", "--lazy", str(project / "exp")], check=True)


def run(project, full_from, free_from):
    with (project / "reports.py").open("a") as file:
        file.write(FILLS)
    with (project / "run.toml").open("a") as file:
        file.write(
            f'\n[[hooks]]\npath = "reports.Fills"\nargs = {{ full_from = {full_from}, free_from = {free_from} }}\n'
        )
    process = start(project, *ONCE_AN_EPOCH)
    out, errors = process.communicate()
    assert "full\n" in out
    return process.returncode, errors


def epochs_of(project):
    return [info.epoch for info in CheckpointStore(project / "exp/run/checkpoints").list() if info.intact]


@pytest.mark.slow
def test_run_continues_through_a_full_disk_and_loses_no_records(project):
    code, errors = run(project, full_from=3, free_from=5)
    assert code == 0, errors
    assert "tries again at the next interval" in errors
    records = [json.loads(line) for line in (project / "exp/run/metrics.jsonl").read_text().splitlines()]
    assert [record["step"] for record in records if "step/loss" in record] == list(range(1, 6 * STEPS_PER_EPOCH + 1))
    assert [record["epoch"] for record in records if "train/loss" in record] == [1, 2, 3, 4, 5, 6]
    store = CheckpointStore(project / "exp/run/checkpoints")
    assert [info.reason for info in store.list() if not info.intact] == []
    assert store.load().epoch == 6
    log = [json.loads(line)["event"] for line in (project / "exp/run/run.log").read_text().splitlines()]
    assert any("could not be saved" in event for event in log)
    assert "training is over" in log


@pytest.mark.slow
def test_run_on_a_full_disk_ends_with_an_error_and_can_resume(project):
    code, errors = run(project, full_from=3, free_from=9)
    assert code == 2, errors
    assert "error[AZ404]" in errors
    assert "has no space" in errors or "No space left on device" in errors
    assert epochs_of(project) == [1, 2]
    (project / "exp/balloon").unlink()
    process = start(project, "--resume", "--allow-drift", "--set", "hooks.1.args.full_from=99", *ONCE_AN_EPOCH)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert epochs_of(project) == [1, 2, 3, 4, 5, 6]
