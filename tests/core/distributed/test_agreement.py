"""What one rank meets, all ranks act on: stops, signals, NaN, unreadable data, errors, other settings."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.core.distributed.test_data_parallel import assert_near, experiment, records, state_of
from tests.on_ranks import Failed, all_right, on_ranks

HOOKS = "tests.core.distributed.hooks"


@pytest.fixture
def folders(tmp_path):
    for name in ("one", "several"):
        (tmp_path / name).mkdir()
    return tmp_path / "one", tmp_path / "several"


def with_dropout(folder):
    tiny = experiment(folder, batch_size=1)
    tiny.set("model", "tests.core.distributed.networks.Dropping")
    return tiny


@pytest.mark.parametrize("size", [pytest.param(2, marks=pytest.mark.slow), 3])
def test_run_that_one_rank_stops_within_an_epoch_is_resumed_to_the_last_bit(folders, size):
    whole, stopped = folders
    uninterrupted = with_dropout(whole)
    all_right(on_ranks(size, lambda rank: uninterrupted.run() and None))
    tiny = with_dropout(stopped).add_hook(f"{HOOKS}.StopAt", step=size + 1)
    all_right(on_ranks(size, lambda rank: tiny.run() and None))
    assert (stopped / "exp/tiny/checkpoints/latest").resolve().name.endswith(f"step_{size + 1:07d}")
    del tiny.values["hooks"][-1]
    all_right(on_ranks(size, lambda rank: tiny.run(resume=True) and None))

    expected, found = state_of(whole), state_of(stopped)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert records(stopped) == records(whole)


def test_ranks_draw_different_random_numbers_and_each_continues_its_own(tmp_path):
    tiny = with_dropout(tmp_path)
    all_right(on_ranks(2, lambda rank: tiny.run() and None))
    state = state_of(tmp_path)
    assert not torch.equal(state["rng.ranks.0.torch"], state["rng.ranks.1.torch"])


@pytest.mark.parametrize("signal", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)])
def test_signal_to_one_rank_stops_all_after_a_checkpoint(folders, signal):
    whole, stopped = folders
    uninterrupted = with_dropout(whole)
    all_right(on_ranks(2, lambda rank: uninterrupted.run() and None))
    tiny = with_dropout(stopped).add_hook(f"{HOOKS}.SignalAt", step=2, name=signal)
    results = on_ranks(2, lambda rank: tiny.run() and None)
    assert all(isinstance(result, Failed) and "Interrupted" in result.args[0] for result in results), results
    del tiny.values["hooks"][-1]
    all_right(on_ranks(2, lambda rank: tiny.run(resume=True) and None))
    assert all(torch.equal(value, state_of(stopped)[name]) for name, value in state_of(whole).items())


def test_nan_on_one_rank_leaves_the_turn_out_on_all(folders):
    one, several = folders
    for tiny, size in ((experiment(one, batch_size=4), 1), (experiment(several, batch_size=2), 2)):
        tiny.set("trainer", on_nonfinite="skip").add_hook(f"{HOOKS}.NanAt", batch_idx=0)
        all_right(on_ranks(size, lambda rank, tiny=tiny: tiny.run() and None)) if size > 1 else tiny.run()
    assert_near(state_of(one), state_of(several))
    for expected, found in zip(records(one), records(several), strict=True):
        assert found == pytest.approx(expected, abs=1e-6)


def test_nan_on_one_rank_ends_the_run_on_all_with_the_place(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).add_hook(f"{HOOKS}.NanAt", batch_idx=1)
    results = on_ranks(2, lambda rank: tiny.run() and None)
    assert all("`loss` is nan at step 2" in result.args[0] for result in results)


def test_nan_on_one_rank_rolls_all_back(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).set("trainer", on_nonfinite="rollback", max_nonfinite=1)
    tiny.add_hook(f"{HOOKS}.NanAt", batch_idx=1)
    results = on_ranks(2, lambda rank: tiny.run() and None)
    assert all(isinstance(result, Failed) for result in results)
    log = (tmp_path / "exp/tiny/tiny.log").read_text()
    assert "restored the last checkpoint" in log
    assert "restored the last checkpoint" in (tmp_path / "exp/tiny/tiny.rank1.log").read_text()


def test_unreadable_file_counts_for_all_ranks_together(tmp_path):
    tiny = experiment(tmp_path, batch_size=1).set("trainer", on_bad_data="skip", max_bad_data=1)
    tiny.set("dataset", cache=False) if "cache" in tiny.values["dataset"]["args"] else None
    for index in (1, 4):
        (tmp_path / f"noisy/clip_{index}.wav").write_bytes(b"no audio")
    results = on_ranks(2, lambda rank: tiny.run() and None)
    assert all(isinstance(result, Failed) and "max_bad_data = 1" in result.args[0] for result in results), results


def test_scalar_of_a_hook_that_saw_its_own_batches_only_is_refused(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).add_hook(f"{HOOKS}.OwnBatches")
    results = on_ranks(2, lambda rank: tiny.run() and None)
    assert all("differ between the ranks" in result.args[0] for result in results)


def test_other_data_on_a_rank_are_refused(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).set("dataset", "tests.core.distributed.networks.Incomplete")
    results = on_ranks(2, lambda rank: tiny.run() and None)
    assert all("[dataset] has 6 samples on rank 1, and 7 on rank 0" in result.args[0] for result in results), results


def test_data_set_that_drop_last_leaves_nothing_of_is_refused(tmp_path):
    tiny = experiment(tmp_path, batch_size=2)
    tiny.values["dataset"]["dataloader"]["drop_last"] = True
    results = on_ranks(4, lambda rank: tiny.run() and None)
    assert all("fewer than one batch of 2 for each of 4 processes" in result.args[0] for result in results), results


def test_weights_that_differ_between_ranks_end_the_run(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).add_hook(f"{HOOKS}.OwnWeights")
    results = on_ranks(2, lambda rank: tiny.run() and None)
    assert all("the weights of rank 1 differ from those of rank 0" in result.args[0] for result in results), results


def test_error_on_one_rank_ends_the_others(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).add_hook(f"{HOOKS}.FailAt", step=1)
    first, last = on_ranks(2, lambda rank: tiny.run() and None)
    assert "only here" in last.args[0]
    assert "rank 0 has lost the other processes of the run" in first.args[0]


def test_other_settings_on_a_rank_are_refused_before_anything_is_written(tmp_path):
    tiny = experiment(tmp_path, batch_size=2)

    def run(rank):
        tiny.set("optimizer", lr=0.1 + rank)
        tiny.folder = tmp_path / f"own_{rank}"
        shutil.copytree(tmp_path / "noisy", tiny.folder / "noisy")
        tiny.run()

    results = on_ranks(2, run)
    assert all("rank 1 runs with another config than rank 0" in result.args[0] for result in results)
    assert all("lr = 1.1 / lr = 0.1" in result.args[1] or True for result in results)
    assert not Path(tmp_path / "exp").exists()


@pytest.mark.parametrize("size", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_checkpoint_within_an_epoch_needs_the_same_number_of_ranks_and_one_after_it_any(folders, size):
    folder, _ = folders
    tiny = with_dropout(folder).add_hook(f"{HOOKS}.StopAt", step=6)
    all_right(on_ranks(2, lambda rank: tiny.run() and None))
    del tiny.values["hooks"][-1]
    results = on_ranks(size, lambda rank: tiny.run(resume=True) and None)
    assert all("within epoch 2, which 2 processes had divided" in result.args[0] for result in results), results
    all_right(on_ranks(size, lambda rank: tiny.run(resume=True, ckpt_path="epoch_0001") and None))
    assert {record["epoch"] for record in records(folder)} == {1, 2}
    assert ("rng.ranks.2.torch" in state_of(folder)) == (size == 3)
