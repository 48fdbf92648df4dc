"""Processes that are started again continue their run, and only their run."""

import json
import os

import pytest
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from audiozen_core import logging
from audiozen_core.distributed.agent import announced_restarts
from audiozen_core.distributed.meeting import BACKEND, register_backend
from audiozen_core.distributed.restarts import notes_begin
from audiozen_core.errors import RunError
from tests.core.distributed.test_agreement import HOOKS
from tests.core.distributed.test_data_parallel import experiment, records
from tests.on_ranks import all_right, on_ranks

NOTE = "AUDIOZEN_RUN_HAS_BEGUN"


TOLD = "a process of the run has failed, so all processes are restarted"


def start_shells(script):
    """Lets the agent start two shells, and start them again up to two times."""
    register_backend()
    config = LaunchConfig(
        *(1, 1, 2),
        run_id="tests",
        rdzv_backend=BACKEND,
        rdzv_endpoint="127.0.0.1:0",
        rdzv_configs={"is_host": True},
        local_addr="127.0.0.1",
        max_restarts=2,
        logs_specs=DefaultLogsSpecs(),
    )
    logging.configure()
    with notes_begin(), announced_restarts():
        elastic_launch(config, "/bin/sh")("-c", script)


def test_each_restart_says_which_process_failed_and_how(capsys):
    killed = "[ $RANK = 1 ] && [ $TORCHELASTIC_RESTART_COUNT = 0 ] && sh -c 'kill -9 $PPID'"
    with pytest.raises(ChildFailedError):
        start_shells(f"{killed}; [ $RANK = 1 ] || sleep 60; exit 7")
    told = [line.partition(TOLD)[2].strip() for line in capsys.readouterr().err.splitlines() if TOLD in line]
    assert told == ["rank=1 ended_with=SIGKILL restart='1 of 2'", "rank=1 ended_with='exit code 7' restart='2 of 2'"]


def test_run_that_a_signal_has_stopped_is_not_said_to_start_again(capsys):
    with pytest.raises(SignalException):
        start_shells(f"echo 15 > $(dirname ${NOTE})/stopped; exit 143")
    assert TOLD not in capsys.readouterr().err


@pytest.fixture
def stopped(tmp_path):
    """An experiment that stops after two of eight steps."""
    return experiment(tmp_path, batch_size=2).add_hook(f"{HOOKS}.StopAt", step=2)


def test_run_that_has_begun_is_continued(stopped, tmp_path, monkeypatch):
    monkeypatch.setenv(NOTE, str(tmp_path / "begun"))
    stopped.run()
    del stopped.values["hooks"][-1]
    stopped.run("train", "test")
    assert [line["step"] for line in records(tmp_path) if "step/loss" in line] == [*range(1, 9)]
    assert "resumed" in (tmp_path / "exp/tiny/tiny.log").read_text()


def test_start_in_the_folder_of_another_run_is_refused_however_often_it_is_repeated(stopped, tmp_path, monkeypatch):
    stopped.run()
    monkeypatch.setenv(NOTE, str(tmp_path / "begun"))
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    for _ in range(2):
        with pytest.raises(RunError, match="already contains a run"):
            stopped.run()


def test_start_that_went_back_to_a_checkpoint_does_so_once(stopped, tmp_path, monkeypatch):
    stopped.run()
    stopped.values["hooks"][-1]["args"]["step"] = 3
    monkeypatch.setenv(NOTE, str(tmp_path / "begun"))
    options = {"resume": True, "ckpt_path": "epoch_0001_step_0000001"}
    stopped.run(**options)
    del stopped.values["hooks"][-1]
    stopped.run(**options)
    log = map(json.loads, (tmp_path / "exp/tiny/tiny.log").read_text().splitlines())
    assert [entry["step"] for entry in log if entry["event"] == "resumed"] == [1, 3]


@pytest.mark.slow
def test_processes_of_all_machines_continue_if_one_knows_that_the_run_has_begun(stopped, tmp_path):
    def run(rank):
        os.environ[NOTE] = str(tmp_path / f"begun_{rank}")
        stopped.run()

    all_right(on_ranks(2, run))
    (tmp_path / "begun_0").unlink()  # as on a machine that has joined
    del stopped.values["hooks"][-1]
    all_right(on_ranks(2, run))
    assert [line["step"] for line in records(tmp_path) if "step/loss" in line] == [*range(1, 5)]


def test_torchrun_counts_the_restarts_itself(stopped, tmp_path, monkeypatch):
    stopped.run()
    del stopped.values["hooks"][-1]
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "0")
    with pytest.raises(RunError, match="already contains a run"):
        stopped.run()
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    stopped.run()
    assert records(tmp_path)[-1]["step"] == 8
