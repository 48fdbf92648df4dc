import gc
import random
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.utils.data import IterableDataset

from audiozen_core.data import loader as loader_module
from audiozen_core.data import seeded as seeded_module
from audiozen_core.data.loader import BatchLoader, to_device
from audiozen_core.data.seeding import OwnGenerators, generator_states, seed_from, set_generator_states
from audiozen_core.errors import DataError


class Noise(torch.utils.data.Dataset):
    """Each item is its index and one draw from each global generator."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.tensor([index, random.random(), np.random.rand(), torch.rand(1).item()], dtype=torch.float64)


def batches(epoch=1, start=0, **options):
    loader = BatchLoader(Noise(), batch_size=4, shuffle=True, **{"seed": 3, **options})
    return list(loader.epoch(epoch, start=start))


def test_batches_are_the_same_for_any_number_of_workers():
    alone = batches()
    for workers in (1, 2, 3):
        assert all(map(torch.equal, alone, batches(num_workers=workers)))


def test_batches_differ_between_epochs_and_seeds_and_items():
    first = torch.cat(batches())
    assert not torch.equal(first, torch.cat(batches(epoch=2)))
    assert not torch.equal(first, torch.cat(batches(seed=4)))
    assert first[:, 0].sort().values.tolist() == list(range(12))
    assert len(first[:, 1:].flatten().unique()) == 36


@pytest.mark.parametrize("workers", [0, 2])
def test_epoch_can_start_at_a_later_batch(workers):
    assert all(map(torch.equal, batches()[2:], batches(start=2, num_workers=workers)))


def test_a_loader_can_be_used_again_after_an_unfinished_epoch():
    loader = BatchLoader(Noise(), batch_size=4, num_workers=2, shuffle=True)
    whole = list(loader.epoch(1))
    next(loader.epoch(2))
    assert all(map(torch.equal, whole, loader.epoch(1)))


def global_draws():
    return random.random(), np.random.rand(), torch.rand(1).item()


@pytest.fixture
def expected_draws():
    """Seeds the global generators and returns the numbers that they will draw next."""
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)
    states = generator_states()
    draws = global_draws()
    set_generator_states(states)
    return draws


def test_loading_does_not_change_the_global_generators(expected_draws):
    batches()
    assert global_draws() == expected_draws


def test_item_that_raises_does_not_change_the_global_generators(expected_draws):
    class Broken(Noise):
        def __getitem__(self, index):
            super().__getitem__(index)
            raise KeyError(index)

    with pytest.raises(DataError, match="sample 0 of the data set Broken can't be loaded: KeyError: 0"):
        next(BatchLoader(Broken(), batch_size=4).epoch(1))
    assert global_draws() == expected_draws


def test_random_sampler_does_not_change_the_global_generators(expected_draws):
    for workers in (0, 1):
        sampler = torch.utils.data.RandomSampler(range(12))
        list(BatchLoader(Noise(), batch_size=4, num_workers=workers, sampler=sampler).epoch(1))
    assert global_draws() == expected_draws


def test_generators_are_exchanged_once_per_batch(monkeypatch):
    exchanged = []

    class Counted(OwnGenerators):
        def __enter__(self):
            exchanged.append(1)
            return super().__enter__()

    monkeypatch.setattr(loader_module, "OwnGenerators", Counted)
    next(BatchLoader(Noise(), batch_size=12).epoch(1))
    assert len(exchanged) == 1


def test_generators_are_seeded_once_per_item_and_once_per_epoch(monkeypatch):
    seeded = []
    monkeypatch.setattr(seeded_module, "seed_from", lambda *numbers: seeded.append(numbers))
    list(BatchLoader(Noise(), batch_size=5, seed=3).epoch(2))
    assert seeded == [(3, 2), *((3, 2, index) for index in range(12))]


class NoiseStream(IterableDataset):
    def __iter__(self):
        for _ in range(12):
            yield torch.tensor([random.random(), np.random.rand()])


def normals_of_training(dataset, num_workers):
    seed_from(5)
    loader = BatchLoader(dataset, batch_size=4, num_workers=num_workers)
    return [[np.random.randn() for _ in range(3)] for _ in loader.epoch(1)]


@pytest.mark.parametrize("dataset", [Noise(), NoiseStream()], ids=["items", "stream"])
def test_training_draws_the_same_normal_numbers_for_any_number_of_workers(dataset, monkeypatch):
    # NumPy draws normal numbers in pairs and keeps the second one, which is lost when generators are exchanged.
    assert normals_of_training(dataset, 0) == normals_of_training(dataset, 1)
    with monkeypatch.context() as patch:
        patch.setattr(loader_module, "forget_half_pairs", lambda: None)
        different = normals_of_training(dataset, 0) != normals_of_training(dataset, 1)
    assert different == isinstance(dataset, Noise)  # the control: streams copy the whole state


def test_random_collate_fn_gives_equal_batches_for_any_number_of_workers(expected_draws):
    def add_noise(items):
        return torch.stack(items) + torch.rand(1)

    alone = batches(collate_fn=add_noise)
    assert global_draws() == expected_draws
    assert all(map(torch.equal, alone, batches(collate_fn=add_noise, num_workers=2)))


def test_length_counts_all_batches_even_after_a_partial_epoch():
    loader = BatchLoader(Noise(), batch_size=5)
    list(loader.epoch(1, start=2))
    assert len(loader) == 3
    assert len(BatchLoader(Noise(), batch_size=5, drop_last=True)) == 2


def test_the_order_of_a_large_data_set_is_kept_as_one_array():
    """A list for each batch would take memory in each worker."""

    def kept(items):
        gc.collect()
        before = len(gc.get_objects())
        loader = BatchLoader(range(items), batch_size=2, shuffle=True)
        epoch = loader.epoch(1)
        next(epoch)
        gc.collect()
        return len(gc.get_objects()) - before, loader

    kept(10)
    (few, _), (many, loader) = kept(10), kept(2_000)
    assert abs(many - few) < 100
    batches = list(loader.epoch(1))
    assert len(loader) == len(batches) == 1_000
    assert torch.equal(torch.cat(batches).sort().values, torch.arange(2_000))
    assert all(map(torch.equal, loader.epoch(1, start=990), batches[990:]))


def test_an_empty_data_set_is_an_error():
    with pytest.raises(DataError, match="empty"):
        BatchLoader([], batch_size=2)


def test_dropping_the_only_batch_is_an_error():
    with pytest.raises(DataError, match="fewer than one batch of 13"):
        BatchLoader(Noise(), batch_size=13, drop_last=True)


def test_loader_uses_the_collate_fn_of_the_data_set_unless_one_is_given():
    dataset = Noise()
    dataset.collate_fn = len
    assert list(BatchLoader(dataset, batch_size=8).epoch(0)) == [8, 4]
    assert list(BatchLoader(dataset, batch_size=8, collate_fn=lambda items: "own").epoch(0)) == ["own", "own"]


def test_a_sampler_chooses_the_items():
    loader = BatchLoader(Noise(), batch_size=2, sampler=torch.utils.data.SequentialSampler(range(3)))
    assert [batch[:, 0].tolist() for batch in loader.epoch(1)] == [[0, 1], [2]]


def test_an_iterable_data_set_receives_the_epoch_and_skips_the_first_batches():
    class Stream(IterableDataset):
        epoch_set = 0

        def set_epoch(self, epoch):
            self.epoch_set = epoch

        def __iter__(self):
            return iter(range(10 * self.epoch_set, 10 * self.epoch_set + 6))

    loader = BatchLoader(Stream(), batch_size=2)
    assert [batch.tolist() for batch in loader.epoch(2, start=1)] == [[22, 23], [24, 25]]
    with pytest.raises(TypeError):
        len(loader)


def test_every_tensor_of_a_batch_moves_to_the_device():
    batch = {"wave": torch.ones(2), "more": [torch.ones(1), (torch.ones(1), "text")], "id": ["a"]}
    moved = to_device(batch, torch.device("meta"))
    assert moved["wave"].is_meta
    assert moved["more"][0].is_meta
    assert moved["more"][1][0].is_meta
    assert moved["more"][1][1] == "text"
    assert moved["id"] == ["a"]


def test_worker_exits_if_its_main_process_has_already_ended():
    """If the main process dies between the fork and the first line of the worker, the worker receives no signal."""
    code = (
        "import multiprocessing, os\n"
        "from audiozen_core.data import workers\n"
        "def child(pipe):\n"
        "    real = os.getppid\n"
        "    os.getppid = lambda: 1 if orphaned else real()\n"
        "    workers.start_worker(0)\n"
        "    pipe.send('still here')\n"
        "context = multiprocessing.get_context('fork')\n"
        "for orphaned in (False, True):\n"
        "    ours, theirs = context.Pipe()\n"
        "    process = context.Process(target=child, args=(theirs,))\n"
        "    process.start(); theirs.close(); process.join()\n"
        "    print(process.exitcode, ours.recv() if ours.poll() and process.exitcode == 0 else 'nothing')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["0 still here", "1 nothing"]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_without_batches_is_an_error(workers):
    class Nothing(IterableDataset):
        def __iter__(self):
            return iter(())

    sampler = torch.utils.data.SubsetRandomSampler([])
    for loader in (
        BatchLoader([1, 2, 3], sampler=sampler, num_workers=workers),
        BatchLoader(Nothing(), num_workers=workers),
    ):
        with pytest.raises(DataError, match="has no batches: it is empty"):
            list(loader.epoch(1))
