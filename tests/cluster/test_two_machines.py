"""`audiozen run --nnodes` on two machines: they train, fail, come and go."""

import json
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.cluster.machines import PORT, ends, two_machines
from tests.core.distributed.test_data_parallel import assert_near, experiment, records, state_of
from tests.on_ranks import all_right, on_ranks

pytestmark = pytest.mark.slow

HOOKS = "tests.core.distributed.hooks"
LOST = "has lost the other processes of the run"


@pytest.fixture
def machines():
    with two_machines() as pair:
        yield pair


@pytest.fixture
def folders(tmp_path):
    for name in ("one", "several"):
        (tmp_path / name).mkdir()
    return tmp_path / "one", tmp_path / "several"


def tiny_in(folder, **options):
    tiny = experiment(folder, batch_size=2, **options)
    tiny.values["meta"]["import_from"] = [str(Path.cwd())]
    return tiny


def run_on(machines, file, *options, nodes="2", later=0.0):
    """Starts the run on both machines, on the second one some seconds later. Returns the processes."""
    host, _ = machines
    given = ["--nproc-per-node", "1", "--nnodes", nodes, "--rdzv-endpoint", f"{host.address}:{PORT}", *options]
    started = []
    for machine in machines:
        time.sleep(later if started else 0)
        started.append(machine.run(file, *given))
    return started


def wait_for(path, process):
    while not path.exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)


def since(path):
    """Returns the moment when a file was created, as a time of `time.monotonic()`."""
    return time.monotonic() - (time.time() - path.stat().st_mtime)


def resumed_steps(folder):
    log = map(json.loads, (folder / "exp/tiny/tiny.log").read_text().splitlines())
    return [entry["step"] for entry in log if entry["event"] == "resumed"]


@pytest.mark.parametrize("later", [0.0, 30.0])
def test_two_machines_train_like_one_process(machines, folders, measured, later):
    one, several = folders
    experiment(one, batch_size=4).run("train", "test")
    begin = time.monotonic()
    for end in ends(run_on(machines, tiny_in(several).write(), "-M", "train", "test", later=later), begin):
        assert end.code == 0, end.printed
        measured("a run of four steps and its test took", end.seconds)
    assert_near(state_of(one), state_of(several))
    for expected, found in zip(records(one), records(several), strict=True):
        assert found == pytest.approx(expected, abs=1e-6)


def test_machine_whose_process_is_killed_ends_the_other(machines, tmp_path, measured):
    tiny = tiny_in(tmp_path).add_hook(f"{HOOKS}.HurtOnce", folder=str(tmp_path), step=1, whom=1)
    tiny.values["distributed"]["timeout"] = 600.0
    started = run_on(machines, tiny.write())
    wait_for(tmp_path / "hurt", started[0])
    left, hurt = ends(started, since(tmp_path / "hurt"))
    measured("after a kill, its machine ended after", hurt.seconds)
    measured("after a kill, the other machine ended after", left.seconds)
    assert (left.code, hurt.code) == (2, 137), (left.printed, hurt.printed)
    assert LOST in left.printed
    assert "ended_with=SIGKILL" in hurt.printed
    assert max(left.seconds, hurt.seconds) < 300


@pytest.mark.parametrize("whom", ["0", "1", "all"])
def test_killed_processes_are_started_again_on_both_machines(machines, folders, measured, whom):
    whole, hurt = folders
    all_right(on_ranks(2, lambda rank: experiment(whole, batch_size=2).run() and None))
    tiny = tiny_in(hurt).add_hook(f"{HOOKS}.HurtOnce", folder=str(hurt), step=3, whom=whom)
    started = run_on(machines, tiny.write(), "--max-restarts", "1")
    wait_for(hurt / "hurt", started[0])
    for end in ends(started, since(hurt / "hurt")):
        assert end.code == 0, end.printed
        measured("after a kill, the continued run ended after", end.seconds)
    expected, found = state_of(whole), state_of(hurt)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert records(whole) == records(hurt)


def test_run_goes_on_without_a_machine_that_is_gone(machines, tmp_path, measured):
    tiny = tiny_in(tmp_path).add_hook(f"{HOOKS}.HurtOnce", folder=str(tmp_path), step=2, whom="machine")
    started = run_on(machines, tiny.write(), "--max-restarts", "1", nodes="1:2")
    wait_for(tmp_path / "hurt", started[0])
    left, gone = ends(started, since(tmp_path / "hurt"))
    assert gone.code == -9
    assert left.code == 0, left.printed
    measured("after a machine was gone, the continued run ended after", left.seconds)
    assert resumed_steps(tmp_path) == [1]
    # One step of both machines is two batches of four. One machine alone then takes two steps, and four in epoch 2.
    assert records(tmp_path)[-1]["step"] == 1 + 2 + 4


def test_machine_that_comes_later_takes_part(machines, tmp_path, measured):
    tiny = tiny_in(tmp_path, max_epochs=60).add_hook(f"{HOOKS}.WaitsForOthers", size=2)
    tiny.set("trainer", max_num_checkpoints=3)
    file = tiny.write()
    first, second = machines
    options = ["--nproc-per-node", "1", "--nnodes", "1:2", "--rdzv-endpoint", f"{first.address}:{PORT}"]
    started = [first.run(file, *options)]
    wait_for(tmp_path / "exp/tiny/checkpoints/latest", started[0])
    begin = time.monotonic()
    started.append(second.run(file, *options))
    for end in ends(started, begin):
        assert end.code == 0, end.printed
        measured("after a machine has come, the run ended after", end.seconds)
    assert len(resumed_steps(tmp_path)) == 1
    assert (tmp_path / "exp/tiny/tiny.rank1.log").exists()
    steps = [line["step"] for line in records(tmp_path) if "train/loss" in line]
    assert len(steps) == len(set(steps)) == 60


def test_machines_whose_cable_is_pulled_both_end(machines, tmp_path, measured):
    tiny = tiny_in(tmp_path, max_epochs=500).add_hook(f"{HOOKS}.WaitsForOthers", size=3)
    tiny.set("trainer", max_num_checkpoints=3)
    tiny.values["distributed"]["timeout"] = 10.0
    started = run_on(machines, tiny.write())
    wait_for(tmp_path / "exp/tiny/checkpoints/latest", started[0])
    machines[1].pull_cable()
    begin = time.monotonic()
    first, second = ends(started, begin)
    measured("after the cable was pulled, the first machine ended after", first.seconds)
    measured("after the cable was pulled, the second machine ended after", second.seconds)
    for end in (first, second):
        assert end.code == 2, end.printed
        assert "has waited for the other processes longer than `timeout` of [distributed]" in end.printed
        assert "Traceback" not in end.printed
    assert "the connection to the other machines" in second.printed  # the first machine is their meeting point


def test_machines_with_different_settings_both_end(machines, tmp_path):
    tiny = tiny_in(tmp_path)
    file = tiny.write()
    other = file.with_name("other").joinpath("tiny.toml")
    other.parent.mkdir()
    other.write_text(file.read_text().replace("lr = 0.5", "lr = 0.25"))
    first, second = machines
    options = ["--nproc-per-node", "1", "--nnodes", "2", "--rdzv-endpoint", f"{first.address}:{PORT}"]
    for end in ends([first.run(file, *options), second.run(other, *options)], time.monotonic()):
        assert end.code == 2, end.printed
        assert "rank 1 runs with another config than rank 0" in end.printed
        assert "lr = 0.25 / lr = 0.5" in end.printed
    assert not (tmp_path / "exp").exists()


def test_meeting_point_that_no_machine_has(machines, tmp_path, measured):
    file = tiny_in(tmp_path).write()
    options = ["--nproc-per-node", "1", "--nnodes", "2", "--rdzv-timeout", "5"]
    nobody = [machine.run(file, *options, "--rdzv-endpoint", "10.99.0.77:2000") for machine in machines]
    for end in ends(nobody, time.monotonic()):
        assert end.code == 2
        assert "the meeting point 10.99.0.77:2000 can't be reached" in end.printed
        measured("a meeting point that no machine has: ended after", end.seconds)


def test_machine_that_no_other_joins(machines, tmp_path, measured):
    file = tiny_in(tmp_path).write()
    options = ["--nproc-per-node", "1", "--nnodes", "2", "--rdzv-timeout", "5"]
    host = machines[0]
    (alone,) = ends([host.run(file, *options, "--rdzv-endpoint", f"{host.address}:{PORT}")], time.monotonic())
    measured("a machine that no other joins: ended after", alone.seconds)
    assert alone.code == 2
    assert "the machines of the run can't meet" in alone.printed
    assert "Traceback" not in alone.printed


STRANGER = """
import socket, sys
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
print("ready", flush=True)
clients = []
while True:
    clients.append(server.accept())
"""


def test_meeting_point_where_another_program_listens(machines, tmp_path, measured):
    host = machines[0]
    stranger = host.start(sys.executable, "-c", STRANGER, host.address, str(PORT))
    assert stranger.stdout.readline() == "ready\n"
    here, there = ends(run_on(machines, tiny_in(tmp_path).write(), "--rdzv-timeout", "10"), time.monotonic())
    stranger.kill()
    stranger.communicate()
    measured("a port in use: the machine itself ended after", here.seconds)
    measured("a port in use: the other machine ended after", there.seconds)
    assert here.code == there.code == 2
    assert f"the port {PORT} of `--rdzv-endpoint` can't be used" in here.printed
    assert f"what listens at {host.address}:{PORT} does not answer as the launcher of a run" in there.printed
    assert "Traceback" not in there.printed
