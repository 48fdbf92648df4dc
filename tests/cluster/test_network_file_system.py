"""Runs in a folder on a network file system, which two machines have mounted."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from audiozen_core.errors import RunError
from audiozen_core.experiment.lock import LOCK, run_lock
from tests.cluster.machines import PORT, ends, two_machines
from tests.cluster.moosefs import network_folder
from tests.cluster.test_two_machines import HOOKS, since, wait_for
from tests.core.distributed.test_data_parallel import experiment, records, state_of
from tests.core.experiment.test_lock import HOLDS
from tests.on_ranks import all_right, on_ranks

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Returns the machines, and the mount point of each."""
    with two_machines() as machines, network_folder(tmp_path_factory.mktemp("moosefs"), machines) as mounts:
        yield machines, mounts


# MooseFS has locks, so a run needs no marker there. It can't exchange two names, so nothing could replace one.
MARKERS = [
    "test_only_one_of_many_simultaneous_runs_gets_the_lock[killed-no locks]",
    "test_marker_file_is_used_if_the_file_system_has_no_locks",
]

# The proofs that a process alone can give. Each writes into the network file system.
PROOFS = [
    "tests/core/experiment/test_lock.py",
    "tests/core/checkpoint/test_store.py",
    "tests/core/checkpoint/test_kill.py",
    "tests/core/checkpoint/test_rewind.py",
    "tests/core/checkpoint/test_copies.py",
    "tests/core/storage",
    "tests/reliability/test_kill.py",
]


@pytest.mark.parametrize("proof", PROOFS)
def test_proof_holds_on_a_network_file_system(cluster, proof):
    _, (mount, _) = cluster
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
    command += [f"--deselect=tests/core/experiment/test_lock.py::{name}" for name in MARKERS]
    done = subprocess.run(
        [*command, f"--basetemp={mount}/{Path(proof).stem}", proof],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_lock_holds_on_the_other_machine_until_its_holder_is_killed(cluster):
    (first, _), (mount, other) = cluster
    (mount / "locked").mkdir()
    holder = first.start(sys.executable, "-c", HOLDS, str(mount / "locked"))
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(RunError, match=f"is in use: process .* on {first.name}"), run_lock(other / "locked"):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with run_lock(other / "locked"):
        assert sorted(path.name for path in (mount / "locked").iterdir()) == [LOCK, f"{LOCK}.json"]


@pytest.mark.parametrize("whom", ["0", "1"])
def test_machines_continue_from_a_checkpoint_that_only_one_has_written(cluster, tmp_path, measured, whom):
    machines, (mount, other) = cluster
    all_right(on_ranks(2, lambda rank: experiment(tmp_path, batch_size=2).run() and None))
    folder = mount / f"shared {whom}"
    folder.mkdir()
    tiny = experiment(folder, batch_size=2).add_hook(f"{HOOKS}.HurtOnce", folder=str(folder), step=3, whom=whom)
    tiny.values["meta"]["import_from"] = [str(Path.cwd())]
    host, second = machines
    options = ["--nproc-per-node", "1", "--nnodes", "2", "--rdzv-endpoint", f"{host.address}:{PORT}"]
    run = [sys.executable, "-m", "audiozen", "run", str(tiny.write()), *options, "--max-restarts", "1"]
    # The second machine reaches the folder under the same path through a mount of its own.
    bind = 'mount --bind "$0" "$1" && shift && exec "$@"'
    own_mount = ["unshare", "--mount", "sh", "-c", bind, str(other), str(mount)]
    started = [host.start(*run), second.start(*own_mount, *run)]
    wait_for(folder / "hurt", started[0])
    for end in ends(started, since(folder / "hurt")):
        assert end.code == 0, end.printed
        measured("after a kill, the continued run on a network file system ended after", end.seconds)
    expected, found = state_of(tmp_path), state_of(folder)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert records(tmp_path) == records(folder)
    log = map(json.loads, (folder / "exp/tiny/tiny.log").read_text().splitlines())
    assert [entry["step"] for entry in log if entry["event"] == "resumed"] == [2]
