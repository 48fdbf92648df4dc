"""Streams of several ranks: which samples are trained on, and the errors of a stream that is too short."""

import pytest
import torch

from audiozen_core.errors import DataError
from tests.on_ranks import all_right, on_ranks
from tests.tiny_experiment import TOML, TinyExperiment

PARTS = """
from pathlib import Path


class Stream(torch.utils.data.IterableDataset):
    def __init__(self):
        self.data = Data(int(Path(__file__).with_name("size").read_text()))

    def __iter__(self):
        yield from (self.data[index] for index in range(len(self.data)))


class StopAt:
    affects_training = False

    @hookimpl
    def stop_within_epoch_reason(self, trainer):
        return "enough" if trainer.progress.step == 2 else None
"""


def toml(*, batch_size=2, drop_last=False, stops=False):
    text = TOML.replace(
        '[dataset]\npath = "parts.Data"\ndataloader.batch_size = 2',
        f'[dataset]\npath = "parts.Stream"\n'
        f"dataloader = {{batch_size = {batch_size}, drop_last = {str(drop_last).lower()}}}",
    ).replace("torch.optim.Adam", "torch.optim.SGD")
    return text + '[[hooks]]\npath = "tensorboard"\nenabled = false\n' + '[[hooks]]\npath = "parts.StopAt"\n' * stops


@pytest.fixture
def tiny(tmp_path):
    return TinyExperiment(tmp_path, PARTS)


def run(tiny, ranks, name="tiny", *, size=7, resume=False, **settings):
    (tiny.folder / "size").write_text(str(size))
    text = toml(**settings)
    if ranks == 1:
        return tiny.run(name=name, text=text, resume=resume)
    return on_ranks(ranks, lambda rank: tiny.run(name=name, text=text, resume=resume) and None)


@pytest.mark.parametrize("drop_last", [True, False])
def test_stream_is_trained_on_like_in_one_process(tiny, drop_last):
    expected = run(tiny, 1, "one", batch_size=4, drop_last=drop_last)
    all_right(run(tiny, 2, "two", batch_size=2, drop_last=drop_last))
    found = tiny.state("two")
    assert found["progress"]["step"] == expected["progress"]["step"] == (2 if drop_last else 4)
    for name, weight in expected["model"].items():
        torch.testing.assert_close(found["model"][name], weight, rtol=0, atol=1e-6)


def test_empty_stream_is_called_empty_on_several_ranks_too(tiny):
    first, _ = run(tiny, 2, size=0)
    assert "[dataset] has no batches: it is empty" in first.args[0]


@pytest.mark.slow
def test_stream_that_has_become_shorter_is_noticed_by_several_ranks(tiny):
    all_right(run(tiny, 2, size=9, stops=True))
    first, _ = run(tiny, 2, size=3, stops=True, resume=True)
    assert "ended after 1 batches, but the resumed epoch continues after batch 2" in first.args[0]


def test_complete_epoch_of_a_stream_is_continued_by_one_process(tiny):
    # Two turns of two ranks count as four batches, but there are only three.
    all_right(run(tiny, 2, size=6, stops=True))
    state = run(tiny, 1, size=6, stops=False, resume=True)
    assert (state["progress"]["epoch"], state["progress"]["step"]) == (2, 2 + 3)


def test_stream_that_has_lost_more_than_the_last_turn_is_noticed_by_one_process(tiny):
    all_right(run(tiny, 2, size=6, stops=True))
    with pytest.raises(DataError, match="ended after 2 batches, but the resumed epoch continues after batch 4"):
        run(tiny, 1, size=4, stops=False, resume=True)
