"""SIGTERM queues the job of a run again, unless the run is ending with an error already."""

import os
import signal

import pytest

from audiozen_core.errors import Interrupted, RunError
from audiozen_core.launcher.requeue import queued_again_when_stopped


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Puts commands of Slurm into the path, which note what they are asked. Returns a function that reads the notes."""
    for name, answer in (("squeue", "RUNNING"), ("scontrol", "")):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/asked\necho {answer}\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    before = signal.getsignal(signal.SIGTERM)
    yield lambda: (tmp_path / "asked").read_text().splitlines() if (tmp_path / "asked").exists() else []
    signal.signal(signal.SIGTERM, before)


def end_job():
    os.kill(os.getpid(), signal.SIGTERM)


def test_signal_before_the_run_queues_the_job_again(asked):
    with pytest.raises(Interrupted), queued_again_when_stopped(0):
        end_job()
    assert asked()[-1] == "scontrol requeue 7"


def start_in_vain():
    try:
        end_job()
    except BaseException as error:
        raise RuntimeError("an import has failed") from error


def test_signal_that_start_code_wraps_queues_the_job_again(asked):
    with pytest.raises(Interrupted), queued_again_when_stopped(0):
        start_in_vain()
    assert asked()[-1] == "scontrol requeue 7"


def test_signal_that_stops_the_run_queues_the_job_again(asked):
    with pytest.raises(Interrupted), queued_again_when_stopped(0):
        raise Interrupted(signal.SIGTERM, "saved")
    assert asked()[-1] == "scontrol requeue 7"


def test_other_ranks_leave_this_to_rank_0(asked):
    with queued_again_when_stopped(1):
        end_job()
    assert asked() == []


def fail(swallows):
    try:
        raise RunError("lost the others")
    finally:
        try:
            end_job()
        except BaseException:
            if not swallows:
                raise


@pytest.mark.parametrize("swallows", [False, True])
def test_signal_during_the_end_of_a_failed_run_does_not_queue_the_job_again(asked, swallows):
    with pytest.raises(RunError, match="lost"), queued_again_when_stopped(0):
        fail(swallows)
    end_job()  # while the error is shown
    assert asked() == []


def test_signal_after_a_failed_run_lets_its_error_be_shown(asked):
    with pytest.raises(RunError, match="planted"), queued_again_when_stopped(0):
        raise RunError("planted")
    end_job()
    assert asked() == []
