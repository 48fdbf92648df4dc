"""Collates samples into a batch, and explains the error if a collate function fails."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor
from torch.utils.data import default_collate

from audiozen_core.data.description import describe
from audiozen_core.data.seeded import NamedSample
from audiozen_core.data.sendable import is_plain, sendable, without_gradients
from audiozen_core.data.unreadable import PartialBatch, UnreadableSample
from audiozen_core.diagnostics.listed import listed
from audiozen_core.errors import AudioZenError, DataError
from audiozen_core.registry.paths import resolve

_PAD = "audiozen.dataset.pad_collate"


class CountedBatch(NamedTuple):
    """A batch and the number of its samples."""

    samples: int
    batch: Any


class PartialCollate:
    """Collates the readable samples of a batch, and returns the unreadable samples together with it.

    An error in the collate function is returned as an unreadable sample too, so that the message is the same with and
    without workers. It is also an error if the collate function returns None, because None stands for a batch whose
    samples are all unreadable, and such batches are skipped silently.

    Args:
        collate_fn: makes a batch from a list of samples.
        place: the table of the TOML file where `collate_fn` can be set, such as `[dataset.dataloader]`.
        counts: whether to return each batch as a `CountedBatch`.
    """

    def __init__(self, collate_fn: Callable[[list[Any]], Any], place: str, *, counts: bool = False) -> None:
        self.collate_fn = collate_fn
        self.place = place
        self.counts = counts

    def __call__(self, samples: Sequence[NamedSample | UnreadableSample]) -> Any:
        """Returns the batch, or a `PartialBatch` if a sample can't be read or the samples can't be collated."""
        readable = [sample for sample in samples if isinstance(sample, NamedSample)]
        unreadable: tuple[UnreadableSample, ...] = ()
        if len(readable) < len(samples):
            unreadable = tuple(sample for sample in samples if isinstance(sample, UnreadableSample))
        batch = None
        if readable:
            try:
                batch = self._join([sample.sample for sample in readable])
            except MemoryError:
                raise
            except (Exception, GeneratorExit) as error:
                unreadable = (*unreadable, self._failure(error, readable))
            else:
                if batch is None:
                    unreadable = (*unreadable, self._returned_none(readable))
                elif self.counts:
                    batch = CountedBatch(len(readable), batch)
        return PartialBatch(unreadable, batch) if unreadable else batch

    def _join(self, samples: list[Any]) -> Any:
        """Collates readable samples."""
        if self.collate_fn is not default_collate:
            # A collate function can modify the samples it gets. Copies of the containers protect the data set.
            return sendable(self.collate_fn([without_gradients(sample) for sample in samples]))
        # `default_collate` uses the keys of the first sample, and would silently drop further keys of later samples.
        if len(samples) > 1 and (unequal := unequal_keys(samples)):
            raise DataError(
                f"the samples of a batch differ in their keys: {unequal}",
                remedy="return the same keys for each sample, or give the data set its own `collate_fn`",
            )
        if all(map(is_plain, samples)):
            return default_collate(samples)  # if the samples can be sent to another process, so can this batch
        return sendable(default_collate([without_gradients(sample) for sample in samples]))

    def _returned_none(self, samples: Sequence[NamedSample]) -> UnreadableSample:
        return UnreadableSample(
            f"`{name_of(self.collate_fn)}` returned None instead of a batch",
            remedy="return a batch of all samples, and leave unwanted samples out of the data set; a hook can skip a "
            "training batch with `skip_batch`",
            notes=(_batch_note(samples),),
            final=True,
        )

    def _failure(self, error: BaseException, samples: Sequence[NamedSample]) -> UnreadableSample:
        note = _batch_note(samples)
        if isinstance(error, AudioZenError):
            return UnreadableSample(error.message, error.remedy, (*error.notes, note), final=True, cause=error)
        forms = list(dict.fromkeys(describe(sample.sample) for sample in samples))
        notes = [note, *(f"sample: {form}" for form in forms[:2])]
        unequal = unequal_shapes([sample.sample for sample in samples])
        if self.collate_fn is default_collate and unequal:
            what = f"the samples of a batch differ in shape, so they can't be stacked: {unequal}"
            remedy = "cut the samples to one length, use `batch_size = 1`, or give the data set its own `collate_fn`"
            if _can_be_padded([sample.sample for sample in samples]):
                remedy = f'set `collate_fn = "{_PAD}"` in {self.place}, which pads waves with zeros; or {remedy}'
            failure = DataError(what, remedy=remedy, notes=notes)
        elif self.collate_fn is default_collate:
            what = "the samples can't be joined into a batch:"
            remedy = (
                "return the same keys with tensors, numbers or strings for each sample, or give the data set its own "
                "`collate_fn`"
            )
            failure = DataError.caused_by(error, what, remedy=remedy, notes=notes)
        else:
            remedy = (
                f"change `{name_of(self.collate_fn)}` so that it accepts these samples, or set another `collate_fn` in "
                f"{self.place}"
            )
            failure = DataError.caused_by(
                error, f"`{name_of(self.collate_fn)}` can't make a batch:", remedy=remedy, notes=notes
            )
        return UnreadableSample(failure.message, failure.remedy, failure.notes, final=True, cause=error)


def name_of(collate_fn: Callable[..., Any]) -> str:
    """Returns the name of a collate function for messages."""
    while isinstance(collate_fn, functools.partial):  # a function with `args` in the TOML file
        collate_fn = collate_fn.func
    return getattr(collate_fn, "__name__", type(collate_fn).__name__)


def _batch_note(samples: Sequence[NamedSample]) -> str:
    return f"batch: {listed(sample.name for sample in samples)}"


def _can_be_padded(samples: list[Any]) -> bool:
    """Returns whether `pad_collate` can collate these samples."""
    try:
        resolve(_PAD).target(samples)
    except Exception:
        return False
    return True


def unequal_keys(samples: Sequence[Any], place: str = "") -> str:
    """Describes the first keys that only some of the samples have, at any depth; "" if all have the same keys.

    Args:
        samples: the samples, or the values at one place in each of the samples.
        place: the dotted path of keys to this place.

    Example:
        >>> unequal_keys([{"a": {"x": 1}}, {"a": {"x": 1, "y": 2}}])
        'only some have `a.y`'
    """
    first = samples[0]
    if isinstance(first, Mapping) and all(isinstance(sample, Mapping) for sample in samples):
        if any(sample.keys() != first.keys() for sample in samples):
            all_keys = dict.fromkeys(key for sample in samples for key in sample)
            partial_keys = [key for key in all_keys if not all(key in sample for sample in samples)]
            return f"only some have {listed(f'`{_below(place, key)}`' for key in partial_keys)}"
        keys = list(first)
    elif isinstance(first, list | tuple) and all(isinstance(s, list | tuple) and len(s) == len(first) for s in samples):
        keys = list(range(len(first)))
    else:
        return ""
    nested = (key for key in keys if isinstance(first[key], Mapping | list | tuple))
    descriptions = (unequal_keys([sample[key] for sample in samples], _below(place, key)) for key in nested)
    return next(filter(None, descriptions), "")


def _below(place: str, key: Any) -> str:
    return f"{place}.{key}" if place else str(key)


def unequal_shapes(samples: Sequence[Any]) -> str:
    """Describes the first place where the tensors or arrays of the samples differ in shape; "" if they don't differ.

    Example:
        >>> import torch
        >>> unequal_shapes([{"x": torch.ones(3)}, {"x": torch.ones(4)}])
        '`x` is [3] and [4]'
    """
    return _unequal(list(samples), "")


def _unequal(values: list[Any], place: str) -> str:
    first = values[0]
    if all(isinstance(value, Tensor | np.ndarray) for value in values):
        shapes = list(dict.fromkeys(str(list(value.shape)) for value in values))
        return f"`{place or 'the sample'}` is {' and '.join(shapes[:2])}" if len(shapes) > 1 else ""
    if all(isinstance(value, Mapping) for value in values):
        keys: list[Any] = [key for key in first if all(key in value for value in values)]
    elif all(isinstance(value, list | tuple) and len(value) == len(first) for value in values):
        keys = list(range(len(first)))
    else:
        return ""
    for key in keys:
        if description := _unequal([value[key] for value in values], _below(place, key)):
            return description
    return ""
