"""Two ranks on a GPU, connected by NCCL. Without a GPU, these tests skip."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from audiozen_core.testing.tiny import write_pairs
from tests.core.distributed.test_data_parallel import experiment, records, state_of
from tests.on_ranks import free_port

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

NET = "tests.gpu.parts.Net"
SHARDED = {"strategy": "fully_sharded", "shard_classes": ["Linear"]}


def make(folder, *, model=NET, batch_size=2, distributed=None, model_args=None, meta=None):
    folder.mkdir(exist_ok=True)
    tiny = experiment(folder, batch_size=batch_size).set("model", model, **(model_args or {}))
    tiny.values["meta"] |= {"device": "cuda", **(meta or {})}
    tiny.values["distributed"] |= distributed or {}
    return tiny


def run(tiny, *options, size=2, modes=("train",)):
    """Runs the experiment on some ranks.

    Returns:
        The exit code of each rank, and all that each has said.
    """
    command = [sys.executable, "-m", "tests.gpu.rank_program", "run", str(tiny.write()), "--mode", *modes, *options]
    shared = {
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
        "NCCL_SOCKET_IFNAME": "lo",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
    }
    ranks = [
        subprocess.Popen(
            command,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        said = [rank.communicate(timeout=100)[0] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return [rank.returncode for rank in ranks], said


def succeed(tiny, *options, size=2, modes=("train",)):
    codes, said = run(tiny, *options, size=size, modes=modes)
    assert codes == [0] * size, "\n".join(said)


def assert_like_one(folder, *, limit=1e-5, **options):
    """Asserts that two ranks end with the weights and the scores of one process with twice the batch."""
    distributed = options.pop("distributed", None)
    one = make(folder / "one", batch_size=4, **options)
    several = make(folder / "several", distributed=distributed, **options)
    succeed(one, size=1, modes=("train", "test"))
    succeed(several, modes=("train", "test"))
    expected, found = state_of(one.folder), state_of(several.folder)
    compared = [name for name in expected if name.startswith(("model", "optimizer"))]
    assert compared == [name for name in found if name.startswith(("model", "optimizer"))]
    before = state_of(one.folder, "epoch_0001")
    assert any((expected[name] != before[name]).any() for name in compared)
    for name in compared:
        torch.testing.assert_close(
            found[name], expected[name], rtol=0, atol=limit, msg=lambda text, name=name: f"{name}: {text}"
        )
    for theirs, ours in zip(records(one.folder), records(several.folder), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-3)


@pytest.mark.parametrize("distributed", [{}, SHARDED], ids=["data_parallel", "fully_sharded"])
def test_ranks_train_like_one_process(tmp_path, distributed):
    assert_like_one(tmp_path, distributed=distributed)


@pytest.mark.parametrize("synchronised", [True, False])
def test_batch_normalisation_uses_the_statistics_of_all_ranks_if_asked(tmp_path, synchronised):
    options = {"model": "tests.gpu.parts.Normed", "distributed": {"sync_batch_norm": synchronised}}
    if synchronised:
        assert_like_one(tmp_path, **options)
    else:
        with pytest.raises(AssertionError, match="norm"):
            assert_like_one(tmp_path, **options)


@pytest.mark.parametrize("distributed", [{}, SHARDED], ids=["data_parallel", "fully_sharded"])
def test_an_overflow_on_one_rank_leaves_the_step_out_on_all(tmp_path, distributed):
    tiny = make(tmp_path, meta={"use_amp": True}, distributed=distributed)
    tiny.set("loss_function", "tests.gpu.parts.ScaledLoss").add_hook("tests.gpu.parts.Overflow")
    succeed(tiny)
    checkpoints = tmp_path / "exp/tiny/checkpoints"
    steps = [load_file(checkpoints / f"epoch_0001_step_000000{step}/model.safetensors") for step in (1, 2)]
    last = load_file(checkpoints / "latest/model.safetensors")
    for name, weight in steps[0].items():
        assert torch.equal(steps[1][name], weight), name
        assert weight.isfinite().all()
    assert any(not torch.equal(last[name], weight) for name, weight in steps[0].items())


@pytest.mark.parametrize("distributed", [{}, SHARDED], ids=["data_parallel", "fully_sharded"])
@pytest.mark.parametrize("use_amp", [False, True])
def test_a_resumed_run_ends_like_an_uninterrupted_one_to_the_last_bit(tmp_path, use_amp, distributed):
    meta = {"use_amp": use_amp, "use_deterministic_algorithms": True}
    options = {"meta": meta, "distributed": distributed, "model_args": {"dropout": 0.3}}
    whole, halves = (make(tmp_path / name, **options) for name in ("whole", "halves"))
    succeed(whole)
    halves.add_hook("tests.gpu.parts.EndRank", what="SIGTERM", step=1)
    codes, said = run(halves)
    assert codes == [143, 143], said
    halves.values["hooks"].pop()
    succeed(halves, "--resume")
    expected, found = state_of(whole.folder), state_of(halves.folder)
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_sharded_weights_are_tested_and_resumed_by_one_process(tmp_path):
    tiny = make(tmp_path, distributed=SHARDED)
    succeed(tiny)
    tiny.set("trainer", max_epochs=3)
    succeed(tiny, "--resume", size=1, modes=("train", "test"))


@pytest.mark.parametrize("what", ["error", "SIGKILL"])
@pytest.mark.parametrize("rank", [0, 1])
def test_the_end_of_one_rank_ends_the_other(tmp_path, rank, what):
    tiny = make(tmp_path).add_hook("tests.gpu.parts.EndRank", what=what, rank=rank)
    codes, said = run(tiny)
    other = 1 - rank
    assert codes[rank] == (2 if what == "error" else -9), said[rank]
    assert codes[other] == 2, said[other]
    assert "has lost the other processes" in said[other]
    assert ("planted" in said[rank]) == (what == "error")


def test_a_signal_to_one_rank_saves_and_ends_all(tmp_path):
    tiny = make(tmp_path).add_hook("tests.gpu.parts.EndRank", what="SIGTERM")
    codes, said = run(tiny)
    assert codes[0] == codes[1] == 143, "\n".join(said)
    assert (tmp_path / "exp/tiny/checkpoints/latest").resolve().name.endswith("step_0000002")


def test_no_step_of_several_ranks_waits_for_the_gpu(tmp_path):
    tiny = make(tmp_path, model="tests.gpu.parts.Filter")
    tiny.set("trainer", domain="waveform", save_ckpt_interval_steps=1000, log_interval=1000)
    write_pairs(tmp_path, 24)
    tiny.add_hook("tests.gpu.parts.NoWaiting")
    succeed(tiny)


def test_more_processes_than_gpus_are_refused(tmp_path):
    tiny = make(tmp_path)
    count = torch.cuda.device_count()
    done = subprocess.run(
        [sys.executable, "-m", "audiozen", "run", str(tiny.write()), "--nproc-per-node", str(count + 1)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert "share a GPU" in done.stderr
    assert f"start at most {count} processes" in done.stderr
    assert not list((tmp_path / "exp").glob("*/checkpoints/*"))
