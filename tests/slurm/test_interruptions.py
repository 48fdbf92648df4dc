"""Runs that a real Slurm pre-empts, stops at their time limit, or cancels."""

import re

import pytest

from tests.core.checkpoint.exactness import difference
from tests.reliability.test_kill import end_of
from tests.slurm.cluster import missing, wait_until
from tests.slurm.slow_run import SlowRun

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing()), pytest.mark.no_cover]

# All cores of the node.
PREEMPTOR = ("--partition=high", "--cpus-per-task=4", "--time=5")


@pytest.fixture(scope="module")
def uninterrupted(cluster, tmp_path_factory):
    """Returns a function that gives the end of an uninterrupted run with a number of processes."""
    ends = {}

    def end(processes):
        if processes not in ends:
            run = SlowRun(tmp_path_factory.mktemp("uninterrupted") / "project")
            run.finish()
            run.submit(cluster, "--set", f"launcher.tasks_per_node={processes}")
            cluster.wait_for(run.job, "COMPLETED", "FAILED")
            assert "SIGTERM" not in run.output
            ends[processes] = end_of(run.folder)
        return ends[processes]

    return end


def assert_same_end(run, expected):
    state, records = end_of(run.folder)
    assert difference(without_launcher(state), without_launcher(expected[0])) is None
    assert records == expected[1]


def without_launcher(state):
    """Returns a state without what the job has asked for, which is part of the configuration in the checkpoint."""
    config = state["extra"]["config"].partition("\n[launcher]")[0]
    return {**state, "extra": {**state["extra"], "config": config}}


def finished(cluster, run, restarts):
    """Lets a run finish, and checks that its job has succeeded after so many restarts."""
    cluster.wait_for(run.job, "RUNNING", restarts=restarts)
    run.finish()
    ended = cluster.wait_for(run.job, "COMPLETED", "FAILED", "TIMEOUT")
    assert ended["JobState"] == "COMPLETED", run.output
    return int(ended["Restarts"])


@pytest.mark.parametrize("processes", [1, 2])
def test_preempted_run_saves_and_continues_exactly(cluster, tmp_path, uninterrupted, processes):
    run = SlowRun(tmp_path / "project")
    run.submit(cluster, "--set", f"launcher.tasks_per_node={processes}")
    run.wait_for_steps()

    other = cluster.submit(*PREEMPTOR, command="sleep 2")
    cluster.wait_for(other, "COMPLETED")
    cluster.wait_for(run.job, "RUNNING", restarts=1)
    assert len(re.findall("stopped by SIGTERM", run.output)) == 1  # the other processes are silent
    assert "Slurm itself is ending the job" in run.output
    assert list((run.folder / "exp/run/checkpoints").glob("epoch_*"))
    run.wait_for_steps()
    assert finished(cluster, run, restarts=1) == 1
    assert_same_end(run, uninterrupted(processes))


@pytest.mark.parametrize("processes", [1, 2])
def test_run_that_is_warned_of_a_preemption_queues_itself_again(start_cluster, tmp_path, uninterrupted, processes):
    cluster = start_cluster(grace=600)
    run = SlowRun(tmp_path / "project")
    run.submit(cluster, "--set", f"launcher.tasks_per_node={processes}")
    run.wait_for_steps()

    # Slurm itself would end the run after ten minutes, for which the test does not wait.
    other = cluster.submit(*PREEMPTOR, command="sleep 2")
    cluster.wait_for(other, "COMPLETED")
    assert run.output.count("the job is queued again") == 1
    assert finished(cluster, run, restarts=1) == 1
    assert_same_end(run, uninterrupted(processes))


def test_run_continues_after_its_time_limit(cluster, tmp_path, uninterrupted):
    run = SlowRun(tmp_path / "project")
    times = ("--set", "launcher.time=0:02:00", "--set", "launcher.stop_before_limit=60")
    run.submit(cluster, *times)
    # The pace of the run is such that it would not end before.
    cluster.wait_for(run.job, "PENDING", restarts=1)
    assert "the job is queued again" in run.output
    finished(cluster, run, restarts=1)  # on a busy machine, it may reach the limit once more
    assert_same_end(run, uninterrupted(1))


@pytest.mark.parametrize("grace", [0, 600])
def test_cancelled_run_saves_and_is_not_queued_again(start_cluster, tmp_path, grace):
    cluster = start_cluster(grace=grace)
    run = SlowRun(tmp_path / "project")
    run.submit(cluster)
    run.wait_for_steps()
    cluster.run("scancel", run.job)
    assert cluster.wait_for(run.job, "CANCELLED")["Restarts"] == "0"
    wait_until(lambda: "stopped by SIGTERM" in run.output, "the run to stop")
    assert "the job is queued again" not in run.output
    wait_until(lambda: not cluster.run("squeue", "--noheader"), "the job to end")
    assert cluster.show(run.job)["JobState"] == "CANCELLED"
    assert list((run.folder / "exp/run/checkpoints").glob("epoch_*"))


def test_job_that_is_stopped_before_the_run_starts_is_queued_again(start_cluster, tmp_path, uninterrupted):
    cluster = start_cluster(grace=600)
    run = SlowRun(tmp_path / "project")
    with (run.folder / "reports.py").open("a") as file:
        file.write('\nreport("importing")\ntime.sleep(5)\n')
    run.submit(cluster)
    wait_until(lambda: "importing" in run.output, "the job to start")
    cluster.run("scancel", "--signal=TERM", run.job)
    assert finished(cluster, run, restarts=1) == 1
    assert "there was nothing to save" in run.output
    assert_same_end(run, uninterrupted(1))
