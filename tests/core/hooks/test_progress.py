"""Where a pass over the data continues with another number of processes than those that saved the checkpoint."""

from itertools import product

import pytest

from audiozen_core.errors import RunError
from audiozen_core.hooks.progress import Progress

SIZES = list(product(range(1, 9), range(1, 9)))


@pytest.mark.parametrize("window", [1, 2, 3])
def test_no_batch_is_left_out_and_fewer_than_a_step_are_repeated(window):
    for (before, ranks), batch in product(SIZES, range(window, 60, window)):
        start = Progress(pass_batch=batch, pass_batches=60, ranks=before).resumed_batch(ranks, window)
        assert start % window == 0
        repeated = batch * before - start * ranks
        assert 0 <= repeated < ranks * window
        if (batch * before) % (ranks * window) == 0:
            assert repeated == 0


def test_complete_pass_stays_complete():
    for (before, ranks), batches in product(SIZES, range(1, 60)):
        turns, turns_now = -(-batches // before), -(-batches // ranks)
        progress = Progress(pass_batch=turns, pass_batches=turns, ranks=before)
        progress.begin_pass(progress.resumed_batch(ranks, 4), turns_now, None, ranks)
        assert (progress.pass_batch, progress.pass_batches, progress.ranks) == (turns_now, turns_now, ranks)


@pytest.mark.parametrize("drop_last", [False, True])
def test_number_of_batches_is_compared_whatever_the_number_of_processes_is(drop_last):
    for (before, ranks), batches in product(SIZES, range(10, 60)):
        turns, now = ((batches // size if drop_last else -(-batches // size)) for size in (before, ranks))
        Progress(pass_batch=1, pass_batches=turns, ranks=before).begin_pass(0, now, None, ranks)
        for other in (now + 2 * max(ranks, before), now - 2 * max(ranks, before)):
            with pytest.raises(RunError, match="the training data or the batch size have changed"):
                Progress(pass_batch=1, pass_batches=turns, ranks=before).begin_pass(0, other, None, ranks)


def test_stream_with_workers_is_continued_by_the_same_number_of_processes():
    progress = Progress(pass_batch=2, stream_workers=2, ranks=2)
    with pytest.raises(RunError, match="number of processes that it started with: 2, not 4"):
        progress.begin_pass(progress.resumed_batch(4, 1), None, 2, 4)
    progress.begin_pass(2, None, 2, 2)
    assert progress.pass_batch == 2
