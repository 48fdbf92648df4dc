"""Transforms, collate functions and samplers of any form with `set_epoch` are told each epoch."""

import functools
import sys
from collections import deque
from types import MappingProxyType

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from audiozen_core.data.epochs import propagate_epoch
from audiozen_core.data.loader import BatchLoader
from tests.core.data.test_epochs import WORKERS, Shuffled, Told, epochs_seen, order


class EpochStream(IterableDataset):
    def __iter__(self):
        return iter(torch.zeros(4, 2))


class Crop:
    """A transform, which is not a data set. It replaces the sample by the epoch that it was told."""

    def __init__(self):
        self.epoch, self.calls = -1, 0

    def set_epoch(self, epoch):
        self.epoch = epoch
        self.calls += 1

    def __call__(self, sample):
        return torch.tensor([self.epoch, 0])


class Slots:
    __slots__ = ("__inner",)

    def __init__(self, inner):
        self.__inner = inner

    def __call__(self, sample):
        return self.__inner(sample)


class Transforms(Dataset):
    """Applies a transform that it keeps in any form."""

    def __init__(self, crop, keep):
        self.kept = keep(crop)
        self.names = ["name"] * 20_000
        self.apply = crop.__call__ if not callable(self.kept) else None

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return (self.apply or self.kept)(index)


TRANSFORMS = {
    "attribute": lambda crop: crop,
    "list": lambda crop: [crop],
    "dict of lists of dicts": lambda crop: {"train": [{"crop": (crop,)}]},
    "partial": functools.partial,
    "closure": lambda crop: lambda sample: crop(sample),  # noqa: PLW0108 (the closure is what is tested)
    "slots": Slots,
    "deep": lambda crop: Slots(Slots(functools.partial(Slots(crop)))),
}


@WORKERS
@pytest.mark.parametrize("keep", TRANSFORMS.values(), ids=TRANSFORMS)
def test_a_transform_is_given_each_epoch(workers, keep):
    crop = Crop()
    loader = BatchLoader(Transforms(crop, keep), batch_size=2, num_workers=workers)
    assert epochs_seen(loader, (1, 2)) == [{1}, {2}]
    assert crop.calls == 2


class Collates(Crop):
    def __call__(self, samples):
        return torch.stack([super(Collates, self).__call__(sample) for sample in samples])


@WORKERS
@pytest.mark.parametrize("is_stream", [False, True])
def test_a_collate_function_is_given_each_epoch(workers, is_stream):
    dataset = EpochStream() if is_stream else Told()
    collate = Collates()
    loader = BatchLoader(
        dataset, batch_size=2, num_workers=min(workers, 1) if is_stream else workers, collate_fn=collate
    )
    assert epochs_seen(loader, (1, 2)) == [{1}, {2}]
    assert collate.calls == 2


def test_a_sampler_without_a_base_class_is_given_the_epoch_and_its_data_set_only_once():
    class Order:
        __slots__ = ("data_source", "inner")

        def __init__(self, data_source):
            self.data_source, self.inner = data_source, Shuffled(range(8))

        def __iter__(self):
            return iter(self.inner)

        def __len__(self):
            return 8

    told = Told()
    loader = BatchLoader(told, sampler=Order(told))
    assert order(loader, 1) != order(loader, 2)
    assert told.calls == 2


def test_objects_that_answer_to_every_name_are_left_alone():
    class Answers:
        def __getattr__(self, name):
            raise AssertionError(name)

    class HasOne:
        answers = Answers()

    told = Crop()
    propagate_epoch([Answers(), HasOne(), {"a": told}, torch.ones(2), np.ones(2)], 3)
    assert told.epoch == 3


class ModuleCrop(torch.nn.Module):
    def set_epoch(self, epoch):
        self.epoch = epoch


def test_modules_within_modules_and_what_modules_hold_are_given_the_epoch():
    class Augments(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = [Crop()]

    crop, augments = ModuleCrop(), Augments()
    propagate_epoch(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Sequential(crop), augments), 3)
    assert (crop.epoch, augments.inner[0].epoch) == (3, 3)


def with_default(crop):
    return lambda sample, crop=crop: crop(sample)


def with_keyword(crop):
    def transform(sample, size=3, *, crop=crop):
        return crop(sample)

    return transform


def in_class(crop):
    class Uses:
        transform = crop

        @property
        def computed(self):
            raise AssertionError

    return type("Inherits", (Uses,), {})()


def in_method(crop):
    class Uses:
        def __call__(self, sample, crop=crop):
            return crop(sample)

    return Uses()


def in_empty_closure(crop):
    def transform(sample, crop=crop):
        return later(sample)

    if crop is None:
        later = crop
    return transform


FORMS = {
    "default": with_default,
    "keyword": with_keyword,
    "class": in_class,
    "method": in_method,
    "empty closure": in_empty_closure,
    "deque": lambda crop: deque([crop]),
    "proxy": lambda crop: MappingProxyType({"a": [crop]}),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_receivers_in_defaults_classes_and_rarer_containers_are_given_the_epoch_once(form):
    crop = Crop()
    dataset = Holder(transform=form(crop))
    propagate_epoch(dataset, 3)
    assert (crop.epoch, crop.calls) == (3, 1)


def test_an_attribute_hides_that_of_its_class_and_a_replaced_one_is_given_the_epoch():
    first, own, second = Crop(), Crop(), Crop()
    holder = in_class(first)
    holder.transform = own
    propagate_epoch(holder, 1)
    assert (first.epoch, own.epoch) == (-1, 1)
    del holder.transform
    type(holder).__mro__[1].transform = second
    propagate_epoch(holder, 2)
    assert (first.epoch, second.epoch) == (-1, 2)


class Holder(Dataset):
    """A data set that holds something."""

    def __init__(self, **held):
        vars(self).update(held)

    def __len__(self):
        return 1


def rows(count):
    """Returns the rows of a table, which make many small objects."""
    return [{"files": [[index], [index]], "speaker": (index,)} for index in range(count)]


def test_a_transform_behind_any_number_of_objects_is_given_the_epoch():
    """The table has more than 50,000 lists, dicts and tuples, and it is found before the transform."""
    crop = Crop()
    propagate_epoch(Holder(table=rows(9_999), transform=Slots(Slots([[[crop]]]))), 3)
    assert (crop.epoch, crop.calls) == (3, 1)


@pytest.mark.parametrize("form", [list, tuple, lambda parts: dict(enumerate(parts))], ids=["list", "tuple", "dict"])
def test_data_sets_and_receivers_in_a_container_of_any_length_are_given_the_epoch(form):
    crops = [Crop(), Crop(), Crop()]
    parts = [Holder(), Holder(transform=crops[0]), crops[1], functools.partial(crops[2]), *["name"] * 20_000]
    propagate_epoch(Holder(parts=form(parts), files=form(parts[4:])), 5)
    assert [crop.epoch for crop in crops] == [5, 5, -1]  # the last is in an entry that is neither


def test_the_parts_of_a_long_concatenation_are_given_the_epoch():
    crops = [Crop() for _ in range(10_001)]
    propagate_epoch(torch.utils.data.ConcatDataset([Holder(transform=crop) for crop in crops]), 2)
    assert {crop.epoch for crop in crops} == {2}


def test_a_row_of_plain_values_costs_one_call_in_each_epoch():
    """Each worker looks for receivers in each epoch, so a table must not take long."""
    count = 5_000
    plain = {first: [{"id": f"{first} {row}", "snr": 0.5} for row in range(100)] for first in range(count // 100)}
    nested = {first: rows(100) for first in range(count // 100)}
    crop = Crop()
    for table, most in ((plain, 1.1), (nested, 10)):
        calls = []
        sys.setprofile(lambda _, event, __, calls=calls: calls.append(event == "call"))
        try:
            propagate_epoch(Holder(table=table, transform=crop), 3)
        finally:
            sys.setprofile(None)
        assert count <= sum(calls) < most * count
    assert (crop.epoch, crop.calls) == (3, 2)


@pytest.mark.parametrize("levels", range(1, 9))
def test_a_transform_in_a_row_is_given_the_epoch_at_any_depth(levels):
    crop, circle = Crop(), []
    row = {"crop": crop}
    for _ in range(levels):
        row = {"id": 1, "parts": [row, ["name"]]}
    circle.append(circle)
    propagate_epoch(Holder(table={"speaker": [{"id": 0}, circle, row]}), 4)
    assert (crop.epoch, crop.calls) == (4, 1)


def test_a_transform_that_replaces_another_between_epochs_is_given_the_epoch():
    first, second = Crop(), Crop()
    dataset = Transforms(first, lambda crop: crop)
    loader = BatchLoader(dataset, batch_size=2)
    seen = epochs_seen(loader, [1])
    dataset.kept = second
    assert seen + epochs_seen(loader, [2]) == [{1}, {2}]
    assert (first.epoch, second.epoch) == (1, 2)
