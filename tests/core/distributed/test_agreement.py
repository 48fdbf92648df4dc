"""What one rank meets, all ranks act on: stops, signals, NaN, unreadable data, errors, other settings."""

import os
import re
import shutil
import signal
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from audiozen_core.distributed.join import joined_ranks
from audiozen_core.distributed.settings import Distributed
from audiozen_core.errors import Interrupted, RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_plugins.hooks.signals import Signals
from tests.core.distributed.test_data_parallel import assert_near, experiment, records, state_of
from tests.on_ranks import Failed, all_right, on_ranks
from tests.tiny_experiment import TOML as SMALL
from tests.tiny_experiment import TinyExperiment as SmallExperiment

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


@pytest.mark.parametrize("size", [2, pytest.param(3, marks=pytest.mark.slow)])
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


@pytest.mark.slow
def test_ranks_draw_different_random_numbers_and_each_continues_its_own(tmp_path):
    tiny = with_dropout(tmp_path)
    all_right(on_ranks(2, lambda rank: tiny.run() and None))
    state = state_of(tmp_path)
    assert not torch.equal(state["rng.ranks.0.torch"], state["rng.ranks.1.torch"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)])
def test_signal_to_one_rank_stops_all_after_a_checkpoint(folders, name):
    whole, stopped = folders
    uninterrupted = with_dropout(whole)
    all_right(on_ranks(2, lambda rank: uninterrupted.run() and None))
    tiny = with_dropout(stopped).add_hook(f"{HOOKS}.SignalAt", step=2, name=name)
    results = on_ranks(2, lambda rank: tiny.run() and None)
    assert all(isinstance(result, Failed) and "Interrupted" in result.args[0] for result in results), results
    del tiny.values["hooks"][-1]
    all_right(on_ranks(2, lambda rank: tiny.run(resume=True) and None))
    assert all(torch.equal(value, state_of(stopped)[key]) for key, value in state_of(whole).items())


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


@pytest.mark.slow
def test_nan_on_one_rank_rolls_all_back(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).set("trainer", on_nonfinite="rollback", max_nonfinite=1)
    tiny.add_hook(f"{HOOKS}.NanAt", batch_idx=1)
    results = on_ranks(2, lambda rank: tiny.run() and None)
    assert all(isinstance(result, Failed) for result in results)
    log = (tmp_path / "exp/tiny/tiny.log").read_text()
    assert "restored the last checkpoint" in log
    assert "restored the last checkpoint" in (tmp_path / "exp/tiny/tiny.rank1.log").read_text()


def test_nan_gradient_ends_the_run_on_a_rank_without_a_batch_too(tmp_path):
    tiny = experiment(tmp_path, batch_size=4).set("model", "tests.core.distributed.networks.NanGradient")
    results = on_ranks(3, lambda rank: tiny.run() and None)
    assert all("the gradient of `gain` of [model] has the norm nan" in result.args[0] for result in results), results


def test_answer_of_a_hook_of_the_main_process_counts_for_all(tmp_path):
    tiny = experiment(tmp_path, batch_size=1).add_hook(f"{HOOKS}.OnlyMain")
    all_right(on_ranks(2, lambda rank: tiny.run() and None))
    assert (tmp_path / "exp/tiny/checkpoints/latest").resolve().name.endswith("step_0000003")


def test_signal_that_arrives_during_an_exchange_is_reported_in_the_next_exchange():
    ranks = SimpleNamespace(is_main=True, several=True)
    hook, trainer = Signals(), SimpleNamespace(ranks=ranks, between_steps=True)
    told = []

    def exchange(place, stop, save):
        if not told:
            os.kill(os.getpid(), signal.SIGTERM)
        told.append(stop)
        return [(stop, save), (0, 0)]

    ranks.exchange = exchange
    hook.on_run_start(trainer, "train")
    try:
        hook.on_training_step_end(trainer)
        trainer.hooks = SimpleNamespace(on_checkpoint_request=lambda **_: None)
        with pytest.raises(Interrupted):
            hook.on_training_step_end(trainer)
    finally:
        hook.on_exception()
        hook.on_teardown()
    assert told == [0, signal.SIGTERM]


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
    assert all("the weights of rank 1 differ from the weights of rank 0" in result.args[0] for result in results), (
        results
    )


def test_scalar_that_is_nan_on_all_ranks_is_the_same(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).add_hook(f"{HOOKS}.NanScalar")
    all_right(on_ranks(2, lambda rank: tiny.run() and None))


def test_score_that_differs_between_ranks_is_that_of_the_main_process(tmp_path):
    tiny = experiment(tmp_path, batch_size=2)
    tiny.set("trainer", "tests.core.distributed.networks.OwnScore", max_epochs=3)
    scores = all_right(on_ranks(2, lambda rank: Experiment.load(tiny.write()).run().modes["train"].best_score))
    assert scores == [3.0, 3.0]


def test_order_that_differs_between_ranks_is_refused(tmp_path):
    tiny = experiment(tmp_path, batch_size=2)
    tiny.values["dataset"]["dataloader"]["sampler"] = {"path": "tests.core.distributed.networks.OwnOrder"}
    results = on_ranks(2, lambda rank: tiny.run() and None)
    assert all("yields a different order on rank 1 than on rank 0" in result.args[0] for result in results), results


def test_other_code_on_a_rank_is_refused_before_anything_is_written(tmp_path):
    def run(rank):
        folder = tmp_path / f"machine_{rank}"
        folder.mkdir()
        # The class is the same, and a module that it imports is not.
        parts = SmallExperiment(folder, "from helper import HELP")
        (folder / "helper.py").write_text(f"HELP = {rank}")
        parts.run(text=SMALL.replace('"exp"', f'"{tmp_path}/exp"'))

    results = on_ranks(2, run)
    assert all("rank 1 runs with another code than rank 0" in result.args[0] for result in results), results
    assert all(re.search(r"first difference: helper \w{8} / helper \w{8}", result.args[0]) for result in results)
    assert not (tmp_path / "exp").exists()


def test_plugin_that_is_switched_off_on_one_rank_only_is_refused(tmp_path):
    tiny = experiment(tmp_path, batch_size=2)

    def run(rank):
        loaded = Experiment.load(tiny.write())
        os.environ["AUDIOZEN_WITHOUT"] = "some-plugin" if rank else ""
        loaded.run()

    first, _ = on_ranks(2, run)  # rank 1 adds that it has no such plugin
    assert "rank 1 runs with another list of plugins that are switched off than rank 0" in first.args[0]


def test_option_that_only_one_rank_has_is_refused(tmp_path):
    tiny = experiment(tmp_path, batch_size=2)
    results = on_ranks(2, lambda rank: tiny.run(resume=rank == 0) and None)
    assert all("rank 1 runs with another resume than rank 0" in result.args[0] for result in results), results


def test_two_samples_of_one_id_on_different_ranks_are_refused(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).set("trainer", max_epochs=1)
    tiny.run()
    tiny.set("predict_dataset", "tests.core.distributed.networks.SameId")
    results = on_ranks(2, lambda rank: tiny.run("predict") and None)
    assert any("two samples would write the same file" in getattr(result, "args", [""])[0] for result in results)


def test_ranks_that_come_apart_end_with_words():
    def part(rank):
        with joined_ranks(Distributed(timeout=60), "cpu") as ranks:
            ranks.wait() if rank else ranks.gather("here")

    results = on_ranks(2, part)
    here = "in `part` of test_agreement.py"
    expected = f"the ranks are out of step: rank 0 is at `gather` {here}, and rank 1 at `wait` {here}"
    assert all(expected in result.args[0] for result in results), results


def test_call_of_one_rank_never_gets_the_values_of_another_call():
    def one(ranks):
        return ranks.gather("one")

    def other(ranks):
        return ranks.gather("other")

    def part(rank):
        with joined_ranks(Distributed(timeout=60), "cpu") as ranks:
            assert one(ranks) == ["one", "one"]
            return (other if rank else one)(ranks)

    results = on_ranks(2, part)
    assert all("at `gather` in `one` of" in result.args[0] for result in results), results
    assert all("rank 1 at `gather` in `other` of" in result.args[0] for result in results), results


def test_hook_that_gathers_in_the_steps_of_an_evaluation_gets_an_error_that_says_where_the_ranks_are(tmp_path):
    # Seven clips: rank 0 has one more to validate than rank 1.
    tiny = experiment(tmp_path, batch_size=2).add_hook(f"{HOOKS}.GathersInSteps")
    results = on_ranks(2, lambda rank: tiny.run() and None)
    expected = (
        "rank 0 is at `gather` in `on_evaluation_step_end` of hooks.py, and rank 1 at `gather` in `_of_all_ranks`"
    )
    assert all(expected in result.args[0] for result in results), results


def test_value_that_cannot_be_sent_is_an_error_with_words():
    def part(rank):
        with joined_ranks(Distributed(timeout=60), "cpu") as ranks:
            ranks.gather(lambda: None)

    results = on_ranks(2, part)
    assert all("a `function` can't be sent to the other processes" in result.args[0] for result in results), results


def test_error_on_one_rank_ends_the_others(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).add_hook(f"{HOOKS}.FailAt", step=1)
    first, last = on_ranks(2, lambda rank: tiny.run() and None)
    assert "only here" in last.args[0]
    assert "rank 0 has lost the other processes of the run" in first.args[0]


def test_rank_that_has_lost_the_others_can_say_so_although_the_launcher_ends_it(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).add_hook(f"{HOOKS}.FailAt", step=1)

    def part(rank):
        try:
            tiny.run()
        finally:
            if rank == 0:
                os.kill(os.getpid(), signal.SIGTERM)

    first, _ = on_ranks(2, part)
    assert "rank 0 has lost the other processes of the run" in first.args[0]


def test_rank_that_has_ended_well_obeys_the_launcher(tmp_path):
    tiny = experiment(tmp_path, batch_size=2)

    def part(rank):
        tiny.run()
        os.kill(os.getpid(), signal.SIGTERM)

    assert all("the process was killed" in result.args[0] for result in on_ranks(2, part))


def test_error_in_the_backward_pass_of_one_rank_ends_the_others_with_words(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).add_hook(f"{HOOKS}.FailsInBackward")
    first, last = on_ranks(2, lambda rank: tiny.run() and None)
    assert "failed in `backward`: ValueError: only here" in last.args[0]
    assert "rank 0 has lost the other processes of the run" in first.args[0]


def test_weight_that_is_frozen_on_one_rank_only_is_an_error_on_all(tmp_path):
    tiny = experiment(tmp_path, batch_size=2).add_hook(f"{HOOKS}.FreezesOnOneRank")
    results = on_ranks(2, lambda rank: tiny.run() and None)
    assert all("rank 1 does not train the same weights as rank 0" in result.args[0] for result in results), results


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


def trained_clips(folder, epoch):
    """Returns the clips that all ranks have trained on in an epoch, in alphabetical order."""
    lines = [line.split() for file in folder.glob("trained.*") for line in file.read_text().splitlines()]
    return sorted(clip for number, clip in lines if int(number) == epoch)


@pytest.mark.parametrize(
    ("before", "now", "again", "steps"),
    [
        pytest.param(2, 1, 0, 2 + 3 + 7, marks=pytest.mark.slow),
        pytest.param(1, 2, 0, 2 + 3 + 4, marks=pytest.mark.slow),
        (2, 3, 1, 2 + 2 + 3),
    ],
)
def test_epoch_is_continued_by_another_number_of_ranks(tmp_path, before, now, again, steps):
    tiny = with_dropout(tmp_path).add_hook(f"{HOOKS}.NotesClips", folder=str(tmp_path))
    tiny.add_hook(f"{HOOKS}.StopAt", step=2)
    all_right(on_ranks(before, lambda rank: tiny.run() and None))
    del tiny.values["hooks"][-1]
    all_right(on_ranks(now, lambda rank: tiny.run(resume=True) and None))

    for epoch in (1, 2):
        clips = trained_clips(tmp_path, epoch)
        assert set(clips) == {f"clip_{index}" for index in range(7)}
        # Four batches are not a whole number of turns of three ranks, so one of them is repeated.
        assert len(clips) == 7 + (again if epoch == 1 else 0)
    assert records(tmp_path)[-1]["step"] == steps


@pytest.mark.parametrize(("before", "now"), [(2, 1), pytest.param(1, 2, marks=pytest.mark.slow)])
def test_epoch_whose_training_is_complete_is_only_validated(tmp_path, before, now):
    tiny = with_dropout(tmp_path).set("trainer", max_epochs=1).add_hook(f"{HOOKS}.NotesClips", folder=str(tmp_path))
    last = -(-7 // before)
    tiny.add_hook(f"{HOOKS}.StopAt", step=last)
    all_right(on_ranks(before, lambda rank: tiny.run() and None))
    assert (tmp_path / "exp/tiny/checkpoints/latest").resolve().name == f"epoch_0001_step_{last:07d}"
    del tiny.values["hooks"][-1]
    all_right(on_ranks(now, lambda rank: tiny.run(resume=True) and None))
    assert len(trained_clips(tmp_path, 1)) == 7
    assert records(tmp_path)[-1]["step"] == last
    assert (tmp_path / "exp/tiny/checkpoints/latest").resolve().name == "epoch_0001"


@pytest.mark.slow
def test_checkpoint_at_the_end_of_an_epoch_is_continued_by_any_number_of_ranks(tmp_path):
    tiny = with_dropout(tmp_path).set("trainer", max_epochs=1, save_ckpt_interval_steps=1000)
    all_right(on_ranks(2, lambda rank: tiny.run() and None))
    tiny.set("trainer", max_epochs=2)
    all_right(on_ranks(3, lambda rank: tiny.run(resume=True) and None))
    assert records(tmp_path)[-1]["step"] == 4 + 3


def test_other_data_are_noticed_also_by_another_number_of_ranks(tmp_path):
    tiny = with_dropout(tmp_path).add_hook(f"{HOOKS}.StopAt", step=2)
    all_right(on_ranks(2, lambda rank: tiny.run() and None))
    for index in (5, 6):
        for kind in ("noisy", "clean"):
            (tmp_path / f"{kind}/clip_{index}.wav").unlink()
    del tiny.values["hooks"][-1]
    with pytest.raises(RunError, match="had 4 batches when the checkpoint was saved"):
        tiny.run(resume=True)
