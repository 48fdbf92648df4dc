"""A step that fails or dies is reported, and all others are done; workers end with the main process."""

import os
import signal
import time

import pytest
import torch

from audiozen_core.errors import DataError
from audiozen_core.scoring.worker_pool import FailedStep, run_jobs


def work(step):
    job, number = step
    if number == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if number == "exit":
        os._exit(3)
    if number == "refuse":
        raise DataError("refused", remedy="none")
    if number == "raise":
        raise KeyError("x")
    return job, number, os.getpid(), torch.get_num_threads()


@pytest.mark.parametrize("workers", [0, 1, 2, 5])
def test_each_step_has_its_result_whatever_the_number_of_workers(workers):
    jobs = [[(job, number) for number in range(job % 3 + 1)] for job in range(7)]
    results = dict(run_jobs(work, jobs, workers=workers))
    assert sorted(results) == sorted(step for job in jobs for step in job)
    assert all(result[:2] == step for step, result in results.items())
    assert {result[3] for result in results.values()} == {1}
    pids = {result[2] for result in results.values()}
    assert pids == {os.getpid()} if workers == 0 else os.getpid() not in pids
    for job in jobs:
        assert len({results[step][2] for step in job}) == 1, "the steps of a job must run in one worker"


@pytest.mark.parametrize("workers", [1, 2])
def test_failing_and_dying_steps_are_reported_and_the_rest_goes_on(workers):
    jobs = [[(0, 0), (0, "die"), (0, 2)], [(1, "exit")], [(2, "refuse"), (2, "raise"), (2, 2)], [(3, 0)]]
    results = dict(run_jobs(work, jobs, workers=workers))
    assert results[0, "die"] == FailedStep("the worker process died (signal SIGKILL)")
    assert results[1, "exit"] == FailedStep("the worker process died (exit code 3)")
    assert results[2, "refuse"] == FailedStep("refused")
    assert results[2, "raise"] == FailedStep("KeyError: 'x'")
    assert [results[step][:2] for step in ((0, 0), (0, 2), (2, 2), (3, 0))] == [(0, 0), (0, 2), (2, 2), (3, 0)]


def test_workers_end_if_the_results_are_not_read_to_the_end():
    results = run_jobs(work, [[(job, 0)] for job in range(20)], workers=2)
    _, (_, _, pid, _) = next(results)
    results.close()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
    pytest.fail("a worker is left")


def test_threads_of_the_main_process_are_restored():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert [result[3] for _, result in run_jobs(work, [[(0, 0)]], workers=0)] == [1]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_no_jobs_need_no_workers():
    assert list(run_jobs(work, [], workers=2)) == []
