"""`audiozen run --nproc-per-node` with real processes: failures, signals, restarts, wrong options."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch

from audiozen_core.cli.main import cli
from audiozen_core.distributed.cpus import usable_cpus
from audiozen_core.distributed.environment import RankInfo, read_rank_info
from audiozen_core.distributed.launch import endpoint_of, machines_of, processes_of
from audiozen_core.errors import AudioZenError, RunError
from tests.core.distributed.test_data_parallel import experiment, records, state_of
from tests.on_ranks import all_right, on_ranks

HOOKS = "tests.core.distributed.hooks"


def launch(tiny, *options, ranks="2"):
    """Runs `audiozen run` in its own processes. Returns the exit code and what it printed."""
    tiny.values["meta"]["import_from"] = [str(Path.cwd())]
    command = [sys.executable, "-c", "from audiozen_core.cli.main import main; main()", "run", str(tiny.write())]
    done = subprocess.run([*command, "--nproc-per-node", ranks, *options], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr


@pytest.fixture
def folders(tmp_path):
    for name in ("whole", "hurt"):
        (tmp_path / name).mkdir()
    return tmp_path / "whole", tmp_path / "hurt"


def assert_same_run(whole, other):
    expected, found = state_of(whole), state_of(other)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert records(whole) == records(other)


def train_undisturbed(folder):
    all_right(on_ranks(2, lambda rank: experiment(folder, batch_size=2).run() and None))


@pytest.mark.slow
def test_run_whose_rank_is_killed_is_restarted_and_ends_like_an_undisturbed_one(folders):
    whole, hurt = folders
    train_undisturbed(whole)
    tiny = experiment(hurt, batch_size=2).add_hook(f"{HOOKS}.HurtOnce", folder=str(hurt), step=3, whom=1)
    code, printed = launch(tiny, "--max-restarts", "1")
    assert code == 0, printed
    assert "rank 0 has lost the other processes" in printed
    told = "a process of the run has failed, so all processes are restarted rank=1 ended_with=SIGKILL restart='1 of 1'"
    assert printed.count(told) == 1
    assert "resumed" in printed
    assert printed.count("training is over") == 1  # the other rank does not say it
    assert_same_run(whole, hurt)


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 2, 3, 4])
@pytest.mark.parametrize("whom", ["0", "1", "all", "launcher"])
def test_killed_run_is_resumed_by_hand_and_ends_like_an_undisturbed_one(folders, whom, step):
    whole, hurt = folders
    train_undisturbed(whole)
    tiny = experiment(hurt, batch_size=2).add_hook(f"{HOOKS}.HurtOnce", folder=str(hurt), step=step, whom=whom)
    code, printed = launch(tiny)
    # Without its launcher a run goes on, and it may have ended before.
    assert code in (128 + signal.SIGKILL, -signal.SIGKILL), printed
    while True:
        code, printed = launch(tiny, "--resume")
        if "is in use" not in printed:  # the ranks of the killed launcher may still be at work
            break
    assert code == 0, printed
    assert_same_run(whole, hurt)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_signal_to_the_launcher_saves_and_stops_all(folders, name):
    whole, hurt = folders
    train_undisturbed(whole)
    tiny = experiment(hurt, batch_size=2)
    tiny.add_hook(f"{HOOKS}.HurtOnce", folder=str(hurt), step=1, whom="launcher", name=name)
    code, printed = launch(tiny)
    assert code == 128 + getattr(signal, name), printed
    assert printed.count("continues from the latest checkpoint") == 1
    code, printed = launch(tiny, "--resume")
    assert code == 0, printed
    assert_same_run(whole, hurt)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_signal_to_a_rank_stops_the_run_for_good(folders, name):
    whole, hurt = folders
    train_undisturbed(whole)
    tiny = experiment(hurt, batch_size=2).add_hook(f"{HOOKS}.HurtOnce", folder=str(hurt), step=1, whom=1, name=name)
    code, printed = launch(tiny, "--max-restarts", "2")
    assert code == 128 + getattr(signal, name), printed
    assert printed.count("continues from the latest checkpoint") == 1
    assert "has failed" not in printed
    assert "resumed" not in printed
    code, printed = launch(tiny, "--resume")
    assert code == 0, printed
    assert_same_run(whole, hurt)


@pytest.mark.slow
def test_second_interrupt_stops_all_at_once(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).set("trainer", save_ckpt_interval_steps=1000)
    code, printed = launch(tiny.add_hook(f"{HOOKS}.InterruptsTwice"))
    assert code == 130, printed
    assert printed.count("stopped at once, without saving") == 1
    assert "saving a checkpoint on request" not in printed
    assert not list(tmp_path.glob("exp/tiny/checkpoints/epoch_*"))


@pytest.mark.slow
def test_signal_for_a_checkpoint_reaches_the_ranks(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).set("trainer", save_ckpt_interval_steps=1000)
    tiny.add_hook(f"{HOOKS}.HurtOnce", folder=str(tmp_path), step=1, whom="launcher", name="SIGUSR1")
    code, printed = launch(tiny)
    assert code == 0, printed
    assert "saving a checkpoint on request" in printed


SILENT = "rank 0 has waited for the other processes longer than `timeout` of [distributed]"


@pytest.mark.slow
@pytest.mark.parametrize(
    "hook",
    [(f"{HOOKS}.HurtOnce", {"whom": 1, "name": "SIGSTOP"}), (f"{HOOKS}.GetsStuckOnce", {})],
    ids=["stop", "stuck"],
)
@pytest.mark.parametrize("restarts", ["0", "1"])
def test_rank_that_no_longer_answers_ends_the_others_or_is_replaced(folders, hook, restarts):
    whole, hurt = folders
    path, args = hook
    tiny = experiment(hurt, batch_size=2).add_hook(path, folder=str(hurt), step=2, **args)
    tiny.values["distributed"]["timeout"] = 10.0
    code, printed = launch(tiny, "--max-restarts", restarts)
    assert SILENT in printed
    assert "Traceback" not in printed
    if restarts == "0":
        assert code == 2, printed
        return
    assert code == 0, printed
    train_undisturbed(whole)
    assert_same_run(whole, hurt)


@pytest.mark.slow
def test_error_of_a_rank_comes_first_and_its_code_is_that_of_the_run(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).add_hook(f"{HOOKS}.FailAt", step=1)
    code, printed = launch(tiny)
    assert code == 2
    assert 0 < printed.index("only here") < printed.index("rank 0 has lost the other processes")


@pytest.mark.slow
def test_torchrun_runs_the_same(folders):
    whole, hurt = folders
    train_undisturbed(whole)
    tiny = experiment(hurt, batch_size=2)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    subprocess.run([*command, "audiozen", "run", str(tiny.write())], check=True, capture_output=True)
    assert_same_run(whole, hurt)


@pytest.mark.parametrize("text", ["0", "-1", "two", ""])
def test_wrong_numbers_of_processes_are_refused(text):
    with pytest.raises(RunError, match="is not a number of processes"):
        processes_of(text)


def test_auto_is_a_process_for_each_gpu_or_core():
    assert processes_of("auto") == (torch.cuda.device_count() or usable_cpus())


def test_numbers_of_machines():
    assert machines_of("2") == (2, 2)
    assert machines_of("2:4") == (2, 4)
    for text in ("0", "4:2", "many", "1:2:3"):
        with pytest.raises(RunError, match="is not a number of machines"):
            machines_of(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("localhost", "not a machine and a port"),
        ("localhost:0", "not a machine and a port"),
        ("localhost:70000", "not a machine and a port"),
        ("host.invalid:2000", "the host `host.invalid` of `--rdzv-endpoint` is not known"),
    ],
)
def test_wrong_meeting_points_are_refused(text, message):
    with pytest.raises(RunError, match=message):
        endpoint_of(text)


@pytest.mark.parametrize("option", [["--max-restarts", "-1"], ["--rdzv-timeout", "0"]])
def test_wrong_numbers_of_restarts_and_seconds_are_refused(option):
    with pytest.raises(click.BadParameter, match="not in the range"):
        cli.main(["run", "exp.toml", "--nproc-per-node", "2", *option], standalone_mode=False)


def test_port_in_use_is_refused_before_anything_starts(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        tiny = experiment(tmp_path, batch_size=2)
        port = taken.getsockname()[1]
        code, printed = launch(tiny, "--nnodes", "2", "--rdzv-endpoint", f"127.0.0.1:{port}")
    assert code == 2
    assert f"the port {port} of `--rdzv-endpoint` can't be used" in printed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "trainer.args.max_epochs=1.5"], "takes `int`"),
        (["--ckpt-path", "best"], "does not start from a checkpoint"),
        (["--weights", "ema"], "but the modes include training"),
    ],
)
def test_mistake_is_reported_once_and_before_the_launcher_waits_for_other_machines(
    tmp_path, monkeypatch, options, message
):
    monkeypatch.setenv("TORCH_CPP_LOG_LEVEL", "ERROR")  # which the command sets
    monkeypatch.setattr("audiozen_core.cli.run._ignore_usr1_until_training", lambda: None)
    file = experiment(tmp_path, batch_size=2).write()
    elsewhere = ["--nnodes", "2", "--rdzv-endpoint", "198.51.100.1:29400"]
    with pytest.raises(AudioZenError) as raised:
        cli.main(["run", str(file), "--nproc-per-node", "2", *elsewhere, *options], standalone_mode=False)
    assert message in str(raised.value)


@pytest.mark.slow
def test_several_machines_need_a_meeting_point(tmp_path):
    code, printed = launch(experiment(tmp_path, batch_size=2), "--nnodes", "2")
    assert code == 2
    assert "--rdzv-endpoint HOST:PORT" in printed


TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "a"}
SRUN = {
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    "SLURM_JOB_ID": "7",
    "MASTER_ADDR": "a",
}


def test_place_is_found_in_the_environment():
    assert read_rank_info({}) == RankInfo()
    assert read_rank_info({"RANK": "0", "WORLD_SIZE": "1"}) == RankInfo()
    assert read_rank_info({**TORCHRUN, "MASTER_PORT": "29500"}) == RankInfo(3, 4, 1, 2, "a", 29500)
    assert read_rank_info(SRUN) == RankInfo(3, 4, 1, 2, "a", 20217)
    # The script that `sbatch` starts is one process, whatever the number of tasks is.
    assert read_rank_info({name: value for name, value in SRUN.items() if name != "SLURM_STEP_ID"}) == RankInfo()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({}, "WORLD_SIZE is 4, but MASTER_PORT is not set"),
        ({"MASTER_PORT": "x"}, "MASTER_PORT is 'x', not a number"),
        ({"RANK": "4"}, "RANK is 4, but WORLD_SIZE is 4"),
    ],
)
def test_wrong_environment_is_refused(changed, message):
    with pytest.raises(RunError, match=message):
        read_rank_info({**TORCHRUN, **changed})
