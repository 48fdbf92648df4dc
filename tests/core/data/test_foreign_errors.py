"""Errors in the code of data sets, samplers and collate functions say what failed, with and without workers."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import ChainDataset, ConcatDataset, Dataset, IterableDataset, Sampler

from audiozen_core.data.collating import PartialCollate
from audiozen_core.data.loader import BatchLoader
from audiozen_core.data.unreadable import UnreadableSamples, WorkerTraceback
from audiozen_core.errors import DataError
from audiozen_plugins.dataset.collate import pad_collate

WORKERS = pytest.mark.parametrize("workers", [0, 1])


class Items(Dataset):
    """Makes its items with a function."""

    def __init__(self, make, size=6):
        self.make = make
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return self.make(index)


class Given(Sampler):
    """Gives the indices of a list."""

    def __init__(self, *indices):
        self.indices = indices

    def __len__(self):
        return len(self.indices)

    def __iter__(self):
        return iter(self.indices)


def failure(dataset, workers=0, **options):
    """Returns the error of the first epoch. Not even the policy `skip` leaves such a sample out."""
    loader = BatchLoader(dataset, num_workers=workers, names=["[dataset]"], place="[dataset.dataloader]", **options)
    with pytest.raises(DataError) as caught:
        list(loader.epoch(1, unreadable=UnreadableSamples("skip", 99)))
    loader.close()
    return caught.value


def fails(index):
    if index == 3:
        return {}["noisy"]
    return torch.ones(2)


@WORKERS
def test_error_of_a_data_set_names_the_sample_and_the_line(workers):
    error = failure(Items(fails), workers, batch_size=2)
    assert error.message == "sample 3 of [dataset] can't be loaded: KeyError: 'noisy'"
    assert error.notes == (f"raised in: {__file__}:{fails.__code__.co_firstlineno + 2}, in fails",)
    assert "--traceback" in error.remedy
    cause = error.__cause__
    assert isinstance(cause, WorkerTraceback if workers else KeyError)
    assert not workers or 'return {}["noisy"]' in str(cause)


@WORKERS
def test_error_of_joined_data_sets_names_the_part_and_its_index(workers):
    joined = ConcatDataset([Items(lambda index: index, 5), Items(fails)])
    loader = BatchLoader(joined, num_workers=workers, names=["[dataset.0]", "[dataset.1]"])
    with pytest.raises(DataError, match=r"sample 3 of \[dataset.1\] can't be loaded: KeyError"):
        list(loader.epoch(1))
    loader.close()


@WORKERS
def test_data_set_that_is_shorter_than_it_says_is_a_clear_error(workers):
    error = failure(Items([0, 1, 2].__getitem__), workers)
    assert error.message == "sample 3 of [dataset] can't be loaded: IndexError: list index out of range"
    assert error.notes[0] == "length: the data set reports 6 items"


def test_stop_iteration_in_a_data_set_does_not_end_the_epoch():
    def stops(index):
        raise StopIteration

    assert failure(Items(stops)).message == "sample 0 of [dataset] can't be loaded: StopIteration"


class Breaks(IterableDataset):
    shards_itself = True

    def __iter__(self):
        yield torch.ones(1)
        raise ValueError("the third column is empty")


@WORKERS
def test_error_of_a_stream_names_the_sample(workers):
    assert failure(Breaks(), workers).message == (
        "sample 1 of [dataset] can't be loaded: ValueError: the third column is empty"
    )


def test_error_of_a_chained_stream_names_its_section():
    class Fine(IterableDataset):
        def __iter__(self):
            return iter([torch.ones(1)] * 3)

    loader = BatchLoader(ChainDataset([Fine(), Breaks()]), names=["[dataset.0]", "[dataset.1]"])
    with pytest.raises(DataError, match=r"sample 1 of \[dataset.1\] can't be loaded"):
        list(loader.epoch(1))


def test_data_set_without_a_length_is_a_clear_error():
    class NoLength:
        def __getitem__(self, index):
            return index

    with pytest.raises(DataError, match="the length of the data set NoLength is unknown: TypeError") as caught:
        BatchLoader(NoLength())
    assert "`__len__`" in caught.value.remedy


# ------------------------------------------------------------------------------------------ samplers


def test_sampler_may_give_strings_and_tuples():
    rows = {"a": 1.0, ("b", 2): 2.0}
    loader = BatchLoader(Items(rows.__getitem__, 2), sampler=Given("a", ("b", 2)), batch_size=2)
    assert [batch.tolist() for batch in loader.epoch(1)] == [[1.0, 2.0]]


def test_an_index_gives_the_same_random_numbers_whatever_its_type():
    def drawn(*indices):
        return [
            batch.item() for batch in BatchLoader(Items(lambda i: torch.rand(())), sampler=Given(*indices)).epoch(1)
        ]

    assert drawn(0, 4) == drawn(*torch.tensor([0, 4])) == drawn(*np.array([0, 4])) == drawn(np.uint8(0), 4)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (-1, "the sampler Given of [dataset] yields the index -1, but indices count from 0"),
        (torch.tensor(-2), "the sampler Given of [dataset] yields the index -2, but indices count from 0"),
        ([1, 2], "the sampler Given of [dataset] yields an index of the type list"),
        (object(), "the sampler Given of [dataset] yields an index of the type object"),
    ],
)
def test_sampler_with_an_unusable_index_is_a_clear_error(index, message):
    error = failure(Items(float), sampler=Given(0, index))
    assert error.message == message
    assert ("batch_sampler" in error.remedy) == isinstance(index, list)


@WORKERS
@pytest.mark.parametrize("index", ["a", (1, 2), 6, 2.5])
def test_index_that_the_data_set_does_not_take_is_a_clear_error(workers, index):
    error = failure(Items(list(range(6)).__getitem__), workers, sampler=Given(0, index))
    assert error.message.startswith(f"sample {index!r} of [dataset] can't be loaded: ")
    assert error.notes[0] == "index: comes from the sampler Given"


def test_sampler_that_raises_is_a_clear_error():
    class Raises(Given):
        def __iter__(self):
            raise AttributeError("lengths")

    assert failure(Items(float), sampler=Raises()).message == (
        "the sampler Raises of [dataset] failed: AttributeError: lengths"
    )


@pytest.mark.parametrize(("batch", "what"), [(3, "yields 3"), ([], "yields an empty batch")])
def test_batch_sampler_that_gives_no_batches_is_a_clear_error(batch, what):
    assert what in failure(Items(float), batch_sampler=Given([0, 1], batch)).message


# ------------------------------------------------------------------------------------------ collate functions


@WORKERS
def test_samples_of_unequal_length_lead_to_the_padding_collate_function(workers):
    def varying(index):
        return {"x": torch.ones(800 + index), "id": f"f{index}"}

    error = failure(Items(varying), workers, batch_size=2)
    assert error.message == "the samples of a batch differ in shape, so they can't be stacked: `x` is [800] and [801]"
    assert error.notes[0] == "batch: sample 0 of [dataset], sample 1 of [dataset]"
    assert 'set `collate_fn = "audiozen.dataset.pad_collate"` in [dataset.dataloader]' in error.remedy
    padded = next(BatchLoader(Items(varying), batch_size=2, collate_fn=pad_collate).epoch(1))
    assert padded["x"].shape == (2, 801)
    assert padded["length"].tolist() == [800, 801]


@WORKERS
@pytest.mark.parametrize(
    "varying",
    [
        lambda index: (torch.ones(800 + index), f"f{index}"),
        lambda index: {"x": torch.ones(2, 800 + index)},
        lambda index: {"noisy": torch.ones(800 + index, dtype=torch.int16)},
        lambda index: torch.ones(800 + index),
    ],
    ids=["tuple", "two axes", "integers", "tensor"],
)
def test_padding_is_not_suggested_for_samples_that_it_refuses(workers, varying):
    error = failure(Items(varying), workers, batch_size=2)
    assert "differ in shape, so they can't be stacked" in error.message
    assert "pad_collate" not in error.remedy
    assert error.remedy.startswith("cut the samples to one length, use `batch_size = 1`, or give the data set")
    with pytest.raises(Exception, match=r".") as refused:
        pad_collate([varying(0), varying(1)])
    assert refused.type is not AssertionError
    assert list(BatchLoader(Items(varying), batch_size=1).epoch(1))


@WORKERS
@pytest.mark.parametrize(
    ("item", "form"),
    [
        (None, "sample: None"),
        ({"x": torch.ones(2), "y": None}, "sample: a dict of x: float32 [2], y: None"),
        ((np.zeros(3, dtype=np.int16), object()), "sample: a tuple of (a NumPy array, int16 [3], object)"),
    ],
)
def test_samples_that_torch_cannot_join_are_described(workers, item, form):
    error = failure(Items(lambda index: item), workers, batch_size=2)
    assert error.message.startswith("the samples can't be joined into a batch: TypeError")
    assert form in error.notes


@WORKERS
def test_error_of_a_collate_function_names_the_function_and_the_samples(workers):
    def of_mine(items):
        return [item["wave"] for item in items]

    error = failure(Items(lambda index: {"x": 1}), workers, batch_size=2, collate_fn=of_mine)
    assert error.message == "`of_mine` can't make a batch: KeyError: 'wave'"
    assert error.notes[:2] == ("batch: sample 0 of [dataset], sample 1 of [dataset]", "sample: a dict of x: int")
    assert "[dataset.dataloader]" in error.remedy


def test_error_of_a_collate_function_with_arguments_names_the_function():
    def of_mine(items, key):
        return [item[key] for item in items]

    collate_fn = functools.partial(functools.partial(of_mine, key="wave"))
    message = failure(Items(lambda index: {"x": 1}), collate_fn=collate_fn).message
    assert message == "`of_mine` can't make a batch: KeyError: 'wave'"


@WORKERS
def test_error_of_pad_collate_is_the_same_from_a_worker(workers):
    error = failure(Items(lambda index: None if index == 3 else {"noisy": torch.ones(4)}), workers, batch_size=2,
                    collate_fn=pad_collate)  # fmt: skip
    assert error.message == "the sample at position 2 of the batch is None, but `pad_collate` needs dicts"
    assert error.notes == ("batch: sample 2 of [dataset], sample 3 of [dataset]",)


def test_an_os_error_of_a_collate_function_is_never_skipped():
    def unreadable(items):
        raise OSError(5, "Input/output error")

    assert "`unreadable` can't make a batch: OSError" in failure(Items(float), collate_fn=unreadable).message


def test_out_of_memory_is_not_taken_for_a_bad_sample():
    def full(value):
        raise MemoryError

    with pytest.raises(MemoryError):
        list(BatchLoader(Items(full)).epoch(1))
    with pytest.raises(MemoryError):
        list(BatchLoader(Items(float), collate_fn=full).epoch(1))
    assert PartialCollate(len, "")([]) is None


@WORKERS
@pytest.mark.parametrize("error", [GeneratorExit, StopIteration, IndexError])
def test_errors_that_python_uses_itself_are_errors_of_the_sample(workers, error):
    def raises(index):
        raise error

    message = failure(Items(raises), workers).message
    assert message == f"sample 0 of [dataset] can't be loaded: {error.__name__}"


# ------------------------------------------------------------------------------------------ what can't be sent


@dataclass
class Record:
    wave: torch.Tensor
    made: object


def keep(samples):
    """Joins samples into a dict of lists."""
    return {key: [sample[key] for sample in samples] for key in samples[0]}


class Holder:
    def __init__(self, tensor):
        self.tensor = tensor


def open_file():
    return Path(__file__).open()


WEIGHT = torch.nn.Parameter(torch.ones(2))
UNSENDABLE = {
    "a function": (lambda index: {"meta": lambda: 0}, "`meta.0` of the batch is function"),
    "a file": (lambda index: {"meta": {"file": open_file()}}, "`meta.0.file` of the batch is TextIOWrapper"),
    "in an array": (lambda index: {"meta": np.array([lambda: 0])}, "`meta.0` of the batch is a NumPy array, object"),
    "in a dataclass": (
        lambda index: {"meta": Record(torch.ones(2), (i for i in "a"))},
        "`meta.0.made` of the batch is",
    ),
    "a gradient": (lambda index: {"meta": Holder(WEIGHT * 2)}, "`meta.0` of the batch is Holder"),
    "a key": (lambda index: {"meta": {lambda: 0: 1}}, "`meta.0` of the batch is a dict"),
}


@WORKERS
@pytest.mark.parametrize(("make", "message"), UNSENDABLE.values(), ids=UNSENDABLE)
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_value_that_a_worker_can_not_send_is_an_error_with_its_key_and_type(workers, make, message):
    error = failure(Items(make), workers, batch_size=2, collate_fn=keep)
    assert error.message.startswith(message)
    assert "can't be sent from a worker" in error.message
    assert error.notes[-1] == "batch: sample 0 of [dataset], sample 1 of [dataset]"


@WORKERS
def test_tensors_of_a_batch_have_no_gradients(workers):
    loader = BatchLoader(Items(lambda index: {"x": WEIGHT * index, "y": [WEIGHT]}), num_workers=workers)
    batches = list(loader.epoch(1))
    assert [batch["x"].sum().item() for batch in batches] == [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
    assert not any(batch["x"].requires_grad or batch["y"][0].requires_grad for batch in batches)
    loader.close()


@WORKERS
def test_what_can_be_sent_is_sent_as_it_is(workers):
    made = {"x": torch.ones(2), "array": np.ones(2), "record": Record(torch.ones(2), "a"), "none": None, "sr": 16000}
    loader = BatchLoader(Items(lambda index: made, size=1), num_workers=workers, collate_fn=keep)
    batch = next(iter(loader.epoch(1)))
    assert type(batch["record"][0]) is Record
    assert (batch["sr"], batch["none"], batch["array"][0].tolist()) == ([16000], [None], [1.0, 1.0])
    loader.close()


# ------------------------------------------------------------------------------------------ streams


class Stream(IterableDataset):
    def __iter__(self):
        return iter(torch.arange(6))


class Sharded(Stream):
    shards_itself = True

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        return iter(torch.arange(6)[worker.id :: worker.num_workers] if worker else torch.arange(6))


def test_stream_with_several_workers_needs_a_class_that_says_that_it_is_divided():
    with pytest.raises(DataError, match="each of its 2 workers would yield all of its samples") as caught:
        BatchLoader(Stream(), num_workers=2)
    assert "shards_itself = True" in caught.value.remedy
    with pytest.raises(DataError, match="each of its 2 workers"):
        BatchLoader(ChainDataset([Sharded(), Stream()]), num_workers=2)
    for workers in (0, 1, 2, 3):
        loader = BatchLoader(Sharded(), num_workers=workers)
        assert sorted(batch.item() for batch in loader.epoch(1)) == list(range(6))
    assert [batch.item() for batch in BatchLoader(Stream(), num_workers=1).epoch(1)] == list(range(6))


def test_without_this_check_each_worker_gives_every_sample(monkeypatch):
    """The negative control."""
    monkeypatch.setattr(Stream, "shards_itself", True, raising=False)
    loader = BatchLoader(Stream(), num_workers=2)
    assert sorted(batch.item() for batch in loader.epoch(1)) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


@pytest.mark.parametrize("options", [{"shuffle": True}, {"sampler": Given(0)}, {"batch_sampler": Given([0])}])
def test_sampler_or_shuffle_of_a_stream_is_an_error(options):
    with pytest.raises(DataError, match=r"is a stream .* would have no effect"):
        BatchLoader(Stream(), **options)


def test_stream_may_be_wrong_about_its_length():
    class Wrong(Sharded):
        def __len__(self):
            return 3

    for workers in (0, 2):
        loader = BatchLoader(Wrong(), num_workers=workers)
        assert loader.num_batches is None
        assert len(list(loader.epoch(1))) == 6


class Draws(IterableDataset):
    def __init__(self, count):
        self.count = count

    def __iter__(self):
        return (torch.rand(()) for _ in range(self.count))


def test_each_chained_stream_is_seeded_by_itself():
    """The numbers of a stream do not depend on how many numbers the streams before it have drawn."""

    def numbers(*counts):
        loader = BatchLoader(ChainDataset([Draws(count) for count in counts]), seed=1)
        return [batch.item() for batch in loader.epoch(1)]

    first, second = numbers(3, 2), numbers(7, 2)
    assert first[:3] == second[:3]
    assert first[3:] == second[7:]
    assert len(set(second)) == 9


def none_for_the_second(samples):
    return None if int(samples[0]) == 2 else torch.stack(samples)


class Numbers(IterableDataset):
    def __iter__(self):
        yield from torch.arange(4)


@WORKERS
@pytest.mark.parametrize(
    ("dataset", "options"),
    [
        (Items(torch.tensor, 4), {"batch_size": 2}),
        (Numbers(), {"batch_size": 2}),
        (Items(torch.tensor, 4), {"batch_sampler": Given([0, 1], [2, 3])}),
    ],
    ids=["map", "stream", "batch_sampler"],
)
def test_collate_function_that_returns_none_does_not_leave_its_batch_out(dataset, options, workers):
    error = failure(dataset, workers, collate_fn=none_for_the_second, **options)
    assert error.message == "`none_for_the_second` returned None instead of a batch"
    assert error.notes == ("batch: sample 2 of [dataset], sample 3 of [dataset]",)


def test_batch_without_a_readable_sample_is_still_left_out():
    def read(index):
        if index < 2:
            raise DataError("it is damaged")
        return torch.tensor(index)

    loader = BatchLoader(Items(read, 4), batch_size=2)
    batches = list(loader.epoch(1, unreadable=UnreadableSamples("skip", 9)))
    assert batches[0] is None
    assert batches[1].tolist() == [2, 3]
