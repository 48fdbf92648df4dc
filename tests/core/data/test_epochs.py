"""Data sets and samplers with `set_epoch` are told each epoch, wherever they are."""

import random

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    ChainDataset,
    ConcatDataset,
    Dataset,
    DistributedSampler,
    IterableDataset,
    Sampler,
    StackDataset,
    Subset,
)

from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import DataError
from tests.tiny_training import make_loader, make_trainer

# Other tests cover the same code. Measuring the coverage here too would take longer than the tests themselves.
pytestmark = pytest.mark.no_cover

WORKERS = pytest.mark.parametrize("workers", [0, 1, 2])


class Told(Dataset):
    """Each item is the epoch that the data set was told, and the index. Epochs are counted, too."""

    def __init__(self, size=8):
        self.size = size
        self.epoch = -1
        self.calls = 0

    def set_epoch(self, epoch):
        self.epoch = epoch
        self.calls += 1

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return torch.tensor([self.epoch, index])


class Wrapper(Dataset):
    """A wrapper of a user, which has no `set_epoch`."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return self.dataset[index]


class Holds(Wrapper):
    """A wrapper of a user that keeps its data set in an attribute of any form."""

    def __init__(self, base, as_kept=lambda base: base):
        super().__init__(None)
        self.base = as_kept(base)
        self.dataset = Items(base)


class Items:
    """Reads the items of a data set, but is not one."""

    def __init__(self, data):
        self.read = (data.__len__, data.__getitem__)

    def __len__(self):
        return self.read[0]()

    def __getitem__(self, index):
        return self.read[1](index)


def epochs_seen(loader, epochs=(1, 2, 3, 0, 3)):
    """Returns, for each epoch, the epochs that its items saw."""
    seen = [set(torch.cat(list(loader.epoch(epoch)))[..., 0].flatten().tolist()) for epoch in epochs]
    loader.close()
    return seen


@WORKERS
@pytest.mark.parametrize("persistent", [True, False])
def test_a_data_set_is_given_each_epoch_also_in_persistent_workers(workers, persistent):
    options = {"persistent_workers": persistent} if workers else {}
    loader = BatchLoader(Told(), batch_size=2, num_workers=workers, **options)
    assert epochs_seen(loader) == [{1}, {2}, {3}, {0}, {3}]


@WORKERS
@pytest.mark.parametrize(
    "wrap",
    [
        lambda told: ConcatDataset([told, Told(3)]),
        lambda told: Subset(told, [0, 5]),
        lambda told: Subset(ConcatDataset([Subset(told, [1]), told]), [0, 1, 2]),
        lambda told: torch.utils.data.random_split(told, [4, 4])[0],
        lambda told: StackDataset(told, Told()),
        lambda told: StackDataset(a=told, b=Told()),
        Wrapper,
        Holds,
        lambda told: Holds(Holds(told)),
        lambda told: Holds(told, lambda base: [base]),
        lambda told: Holds(told, lambda base: {"first": (base,), "then": base}),
    ],
)
def test_a_data_set_within_others_is_given_each_epoch(workers, wrap):
    def collate(items):
        return torch.stack(
            [torch.stack(list(item.values()) if isinstance(item, dict) else list(item)) for item in items]
        )

    dataset = wrap(Told())
    stacked = isinstance(dataset, StackDataset)
    loader = BatchLoader(dataset, batch_size=2, num_workers=workers, collate_fn=collate if stacked else None)
    assert epochs_seen(loader, (1, 2)) == [{1}, {2}]


def test_a_data_set_is_given_the_epoch_once_an_epoch_not_once_an_item():
    told = Told()
    loader = BatchLoader(ConcatDataset([told, told]), batch_size=2)
    list(loader.epoch(1))
    list(loader.epoch(2))
    assert told.calls == 2


def test_a_data_set_that_is_held_twice_is_given_the_epoch_once_and_circles_end():
    told = Told()
    holds = Holds(told, lambda base: [base, base])
    holds.again, holds.circle = told, holds
    list(BatchLoader(holds, batch_size=2).epoch(1))
    assert told.calls == 1


class Outer(Sampler):
    """A wrapper of a sampler. It also holds the data set, as `RandomSampler` does."""

    def __init__(self, inner, data_source=None):
        self.inner = inner
        self.data_source = data_source

    def __len__(self):
        return len(self.inner)

    def __iter__(self):
        return iter(self.inner)


def test_a_sampler_within_another_is_given_the_epoch_but_not_its_data_set():
    told = Told()
    orders = [order(BatchLoader(told, batch_size=8, sampler=Outer(Shuffled(told), told)), epoch) for epoch in (1, 2)]
    assert orders == [
        [torch.randperm(8, generator=torch.Generator().manual_seed(5 + epoch)).tolist()] for epoch in (1, 2)
    ]
    assert told.calls == 2


def test_two_loaders_may_take_turns_with_one_data_set():
    told = Told()
    training, validation = BatchLoader(told, batch_size=4), BatchLoader(told, batch_size=4)
    for epoch in (1, 1, 2):
        assert epochs_seen(training, [epoch]) == [{epoch}]
        assert epochs_seen(validation, [0]) == [{0}]


def test_an_object_with_set_epoch_answers_for_its_contents():
    class Doubles(Wrapper):
        def set_epoch(self, epoch):
            self.dataset.set_epoch(2 * epoch)

    assert epochs_seen(BatchLoader(Doubles(Told()), batch_size=8), (1, 3)) == [{2}, {6}]


class Shuffled(Sampler):
    """An order that depends on its seed and on the epoch that it is told, as in `DistributedSampler`."""

    def __init__(self, data_source, seed=5):
        self.size = len(data_source)
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return self.size

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        return iter(torch.randperm(self.size, generator=generator).tolist())


def order(loader, epoch, start=0):
    return [batch[..., 1].flatten().tolist() for batch in loader.epoch(epoch, start=start)]


SAMPLERS = {
    "sampler": lambda: {"sampler": Shuffled(range(8)), "batch_size": 2},
    "distributed": lambda: {"sampler": DistributedSampler(range(8), num_replicas=1, rank=0, seed=5), "batch_size": 2},
    "batch sampler": lambda: {"batch_sampler": BatchSampler(Shuffled(range(8)), 2, drop_last=False)},
}


@WORKERS
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler_is_given_each_epoch(workers, name):
    loader = BatchLoader(Told(), num_workers=workers, **SAMPLERS[name]())
    orders = {epoch: order(loader, epoch) for epoch in (0, 1, 2)}
    loader.close()
    for epoch, found in orders.items():
        expected = torch.randperm(8, generator=torch.Generator().manual_seed(5 + epoch)).view(-1, 2).tolist()
        assert found == expected
    assert orders[0] != orders[1] != orders[2]


@pytest.mark.parametrize("name", SAMPLERS)
def test_an_epoch_of_a_sampler_can_start_at_a_later_batch(name):
    whole = order(BatchLoader(Told(), **SAMPLERS[name]()), 2)
    assert order(BatchLoader(Told(), **SAMPLERS[name]()), 2, start=3) == whole[3:]


class Growing(Shuffled):
    """A sampler whose epochs differ in length."""

    def __len__(self):
        return 2 + self.epoch

    def __iter__(self):
        return iter(range(2 + self.epoch))


def test_the_number_of_batches_is_that_of_the_current_epoch():
    loader = BatchLoader(Told(), sampler=Growing(range(8)), batch_size=2)
    for epoch, count in ((1, 2), (4, 3), (0, 1)):
        batches = loader.epoch(epoch)
        assert loader.num_batches == len(list(batches)) == count


def test_a_data_set_whose_length_depends_on_the_epoch_is_an_error():
    class Grows(Told):
        def __len__(self):
            return 8 + max(self.epoch, 0)

    loader = BatchLoader(Grows())
    list(loader.epoch(0))
    with pytest.raises(DataError, match="had 8 items when it was built, but has 9 in epoch 1"):
        loader.epoch(1)


class CountingStream(IterableDataset):
    """Gives the epoch that it was told, and a count."""

    shards_itself = True
    epoch = -1

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        return (torch.tensor([self.epoch, index]) for index in range(first, 6, step))


@WORKERS
@pytest.mark.parametrize("wrap", [lambda stream: stream, lambda stream: ChainDataset([stream, CountingStream()])])
def test_a_stream_is_given_each_epoch(workers, wrap):
    assert epochs_seen(BatchLoader(wrap(CountingStream()), num_workers=workers)) == [{1}, {2}, {3}, {0}, {3}]


class DrawsWhenTold(Told):
    """Draws from all global generators when it is told the epoch."""

    def set_epoch(self, epoch):
        super().set_epoch(epoch)
        self.drawn = [random.random(), np.random.rand(), torch.rand(()).item()]

    def __getitem__(self, index):
        return torch.tensor([self.epoch, *self.drawn], dtype=torch.float64)


@WORKERS
def test_set_epoch_may_draw_random_numbers(workers):
    """It gets the same numbers in each process and each run, and the run's generators do not change."""
    torch.manual_seed(1)
    expected = list(BatchLoader(DrawsWhenTold(), batch_size=4).epoch(2))
    torch.manual_seed(2)
    before = torch.get_rng_state()
    loader = BatchLoader(DrawsWhenTold(), batch_size=4, num_workers=workers)
    assert all(map(torch.equal, expected, loader.epoch(2)))
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(expected[0], next(loader.epoch(3)))
    loader.close()


@WORKERS
def test_a_sampler_with_a_state_gives_the_same_order_for_any_number_of_workers(workers):
    """Torch asks a sampler twice for its order when it starts workers."""

    class HasState(Shuffled):
        def __init__(self):
            super().__init__(range(8))
            self.generator = np.random.default_rng(0)

        def __iter__(self):
            return iter(self.generator.permutation(8))

    loader = BatchLoader(Told(), sampler=HasState(), batch_size=4, num_workers=workers)
    expected = [np.random.default_rng(0).permutation(8).reshape(2, 4).tolist()]
    assert [order(loader, 1)] == expected
    loader.close()


@WORKERS
def test_a_set_epoch_that_raises_is_a_clear_error(workers):
    class Broken(Told):
        def set_epoch(self, epoch):
            raise ValueError("no such epoch")

    with pytest.raises(DataError, match=r"Broken failed in `set_epoch\(1\)`: ValueError: no such epoch"):
        list(BatchLoader(Broken(), num_workers=workers).epoch(1))


def test_a_set_epoch_of_a_sampler_that_raises_is_a_clear_error():
    class Bad(Shuffled):
        def set_epoch(self, epoch):
            raise KeyError(epoch)

    with pytest.raises(DataError, match="the sampler Bad of the data set Told failed in `set_epoch`: KeyError: 1"):
        BatchLoader(Told(), sampler=Bad(range(8))).epoch(1)


def test_training_tells_each_epoch_and_evaluation_epoch_0():
    class Pairs(Told):
        def __init__(self):
            super().__init__()
            self.seen = set()

        def __getitem__(self, index):
            self.seen.add(self.epoch)
            return {"x": torch.ones(4), "y": torch.ones(1)}

    training, validation = Pairs(), Pairs()
    make_trainer(max_epochs=3).train(BatchLoader(training, batch_size=4), [BatchLoader(validation, batch_size=4)])
    assert training.seen == {1, 2, 3}
    assert validation.seen == {0}


def test_without_the_telling_these_tests_fail(monkeypatch):
    """The negative control."""
    monkeypatch.setattr("audiozen_core.data.seeded.propagate_epoch", lambda *_, **__: None)
    monkeypatch.setattr("audiozen_core.data.sampling.propagate_epoch", lambda *_, **__: None)
    assert epochs_seen(BatchLoader(Told(), batch_size=2), (1, 2)) == [{-1}, {-1}]
    loader = BatchLoader(Told(), **SAMPLERS["sampler"]())
    assert order(loader, 0) == order(loader, 1)
    assert make_loader().num_batches == 5
