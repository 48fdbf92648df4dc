"""What may change about loading real speech without changing a sample, and what must change it.

The tolerance is zero: samples are equal to the last bit. Padding is not part of a sample.
"""

import pytest
import torch
from torch.utils.data import ConcatDataset, IterableDataset, Subset, get_worker_info

from audiozen.dataset import AudioFolder, NoisySpeechMix
from audiozen_core.data.loader import BatchLoader

# Other tests cover the same code. Measuring the coverage here too would take longer than the tests themselves.
pytestmark = pytest.mark.no_cover

ITEMS = 10


@pytest.fixture(scope="module")
def mix():
    """Returns a data set of ten random mixtures of real speech and real noise."""
    from tests.conftest import REPOSITORY

    manifest = REPOSITORY / "recipes/mini_denoise/corpus/manifest.csv"
    return NoisySpeechMix(manifest, split="train", clip_seconds=0.5, items_per_epoch=ITEMS)


@pytest.fixture(scope="module")
def speech():
    """Returns six real recordings of different lengths."""
    from tests.conftest import REPOSITORY

    paths = sorted((REPOSITORY / "recipes/mini_denoise/corpus/speech").rglob("*.flac"))[::12][:6]
    return AudioFolder(files=paths)


def samples(dataset, *, epoch=1, start=0, **options):
    """Returns the samples of an epoch in their order, without padding, as (ID, waves)."""
    loader = BatchLoader(dataset, collate_fn=AudioFolder.collate_fn, **{"batch_size": 2, "seed": 3, **options})
    found = []
    for batch in loader.epoch(epoch, start=start):
        for index, length in enumerate(batch["length"].tolist()):
            waves = [batch[key][index, :length].clone() for key in ("noisy", "clean") if key in batch]
            found.append((batch["id"][index], waves))
    loader.close()
    return found


def equal(one, other):
    """Returns whether two lists of samples are the same, in the same order, to the last bit."""
    return len(one) == len(other) and all(
        name == another and all(map(torch.equal, waves, others))
        for (name, waves), (another, others) in zip(one, other, strict=True)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 1},
        {"batch_size": 3},
        {"batch_size": ITEMS},
        {"num_workers": 1},
        {"num_workers": 2},
        {"num_workers": 2, "persistent_workers": False, "prefetch_factor": 1},
        {"num_workers": 3, "batch_size": 3},
    ],
)
@pytest.mark.parametrize("shuffle", [False, True])
def test_samples_do_not_depend_on_batch_size_and_workers(mix, options, shuffle):
    assert equal(samples(mix, shuffle=shuffle), samples(mix, shuffle=shuffle, **options))


def test_samples_do_not_depend_on_where_the_epoch_starts(mix):
    assert equal(samples(mix, shuffle=True)[6:], samples(mix, shuffle=True, start=3))


def test_shuffling_changes_the_order_but_no_sample(mix):
    plain, shuffled = samples(mix), samples(mix, shuffle=True)
    assert [name for name, _ in plain] != [name for name, _ in shuffled]
    assert equal(sorted(plain, key=lambda item: item[0]), sorted(shuffled, key=lambda item: item[0]))


def test_splitting_a_data_set_into_joined_parts_changes_nothing(mix):
    parts = ConcatDataset([Subset(mix, range(4)), Subset(mix, range(4, ITEMS))])
    assert equal(samples(mix, shuffle=True), samples(parts, shuffle=True))


def test_epoch_and_seed_change_the_samples(mix):
    first = samples(mix)
    for other in (samples(mix, epoch=2), samples(mix, seed=4)):
        assert not any(torch.equal(one[0], two[0]) for (_, one), (_, two) in zip(first, other, strict=True))
    assert equal(first, samples(mix))


def test_order_of_the_files_changes_the_order_only(speech):
    backwards = AudioFolder(files=[file.files["noisy"] for file in speech.files[::-1]])
    assert equal(samples(speech)[::-1], samples(backwards))
    assert len({len(waves[0]) for _, waves in samples(speech)}) == 6


@pytest.mark.parametrize("batch_size", [2, 6])
def test_padding_is_cut_off_without_a_trace(speech, batch_size):
    alone = samples(speech, batch_size=1)
    assert equal(alone, samples(speech, batch_size=batch_size))
    assert all(torch.equal(waves[0], speech[index]["noisy"]) for index, (_, waves) in enumerate(alone))


class Shared(IterableDataset):
    """The recordings as a stream that its workers share."""

    shards_itself = True

    def __init__(self, dataset):
        self.dataset = dataset

    def __iter__(self):
        worker = get_worker_info()
        first, step = (worker.id, worker.num_workers) if worker else (0, 1)
        return (self.dataset[index] for index in range(first, len(self.dataset), step))


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_workers_of_a_stream_give_each_recording_once(speech, workers):
    def by_name(found):
        return sorted(found, key=lambda item: item[0])

    assert equal(by_name(samples(speech)), by_name(samples(Shared(speech), num_workers=workers)))
