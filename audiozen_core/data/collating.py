"""Makes a batch from samples, and says what is wrong if a collate function can't."""

from __future__ import annotations

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
    """A batch, and how many samples it has been made of."""

    samples: int
    batch: Any


class PartialCollate:
    """Collates the readable samples of a batch, and passes on the unreadable ones.

    An error of the collate function is passed on in the same way, so that it looks the same from a worker. Returning
    None is such an error: it would be taken for a batch whose samples are all unreadable, and left out in silence.

    Args:
        collate_fn: makes a batch from a list of samples.
        place: the table of the TOML file that may name another collate function, such as `[dataset.dataloader]`.
        counts: whether to make each batch a `CountedBatch`.
    """

    def __init__(self, collate_fn: Callable[[list[Any]], Any], place: str, *, counts: bool = False) -> None:
        self.collate_fn = collate_fn
        self.place = place
        self.counts = counts

    def __call__(self, samples: Sequence[NamedSample | UnreadableSample]) -> Any:
        """Makes the batch, or a `PartialBatch` if a sample can't be read or the samples can't be collated."""
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
        """Makes the batch of samples that can be read."""
        if self.collate_fn is not default_collate:
            # It gets copies of the containers, because it may change them, and the data set may keep them.
            return sendable(self.collate_fn([without_gradients(sample) for sample in samples]))
        # It takes the keys of the first sample, and drops those that only others have.
        if len(samples) > 1 and (unequal := unequal_keys(samples)):
            raise DataError(
                f"the samples of a batch differ in their keys: {unequal}",
                remedy="return the same keys for each sample, or give the data set a `collate_fn` of its own",
            )
        if all(map(is_plain, samples)):
            return default_collate(samples)  # of plain samples it always makes a plain batch
        return sendable(default_collate([without_gradients(sample) for sample in samples]))

    def _returned_none(self, samples: Sequence[NamedSample]) -> UnreadableSample:
        return UnreadableSample(
            f"`{name_of(self.collate_fn)}` returned None instead of a batch",
            remedy="let it return a batch for all samples that it gets, and leave unwanted ones out of the data set; a "
            "hook can leave a training batch out with `skip_batch`",
            notes=(_batch_note(samples),),
            final=True,
        )

    def _failure(self, error: BaseException, samples: Sequence[NamedSample]) -> UnreadableSample:
        note = _batch_note(samples)
        if isinstance(error, AudioZenError):
            found = DataError(error.message, remedy=error.remedy, notes=(*error.notes, note))
            return UnreadableSample(found.message, found.remedy, found.notes, final=True, cause=error)
        forms = list(dict.fromkeys(describe(sample.sample) for sample in samples))
        notes = [note, *(f"sample: {form}" for form in forms[:2])]
        unequal = unequal_shapes([sample.sample for sample in samples])
        if self.collate_fn is default_collate and unequal:
            what = f"the samples of a batch differ in shape, so they can't be stacked: {unequal}"
            remedy = "cut the samples to clips of one length, use `batch_size = 1`, or give the data set a `collate_fn`"
            if _can_be_padded([sample.sample for sample in samples]):
                remedy = f'write `collate_fn = "{_PAD}"` in {self.place}, which pads waves with zeros; or {remedy}'
            remedy += " of its own"
            found = DataError(what, remedy=remedy, notes=notes)
        elif self.collate_fn is default_collate:
            what = "the samples can't be joined into a batch:"
            remedy = (
                "return the same keys with tensors, numbers or strings for each sample, or give the data set a "
                "`collate_fn` of its own"
            )
            found = DataError.caused_by(error, what, remedy=remedy, notes=notes)
        else:
            remedy = (
                f"let `{name_of(self.collate_fn)}` take these samples, or name another `collate_fn` in {self.place}"
            )
            found = DataError.caused_by(
                error, f"`{name_of(self.collate_fn)}` can't make a batch:", remedy=remedy, notes=notes
            )
        return UnreadableSample(found.message, found.remedy, found.notes, final=True, cause=error)


def name_of(collate_fn: Callable[..., Any]) -> str:
    """Returns the name of a collate function in messages."""
    return getattr(collate_fn, "__name__", type(collate_fn).__name__)


def _batch_note(samples: Sequence[NamedSample]) -> str:
    return f"batch: {listed(sample.name for sample in samples)}"


def _can_be_padded(samples: list[Any]) -> bool:
    """Returns whether `pad_collate` takes these samples."""
    try:
        resolve(_PAD).target(samples)
    except Exception:
        return False
    return True


def unequal_keys(samples: Sequence[Any], place: str = "") -> str:
    """Describes the first keys that only some of the samples have, at any depth; an empty string if there are none.

    Args:
        samples: the samples, or the values that are at the same place in all of them.
        place: the keys that lead to this place.

    Example:
        >>> unequal_keys([{"a": {"x": 1}}, {"a": {"x": 1, "y": 2}}])
        'only some have `a.y`'
    """
    first = samples[0]
    if isinstance(first, Mapping) and all(isinstance(sample, Mapping) for sample in samples):
        if any(sample.keys() != first.keys() for sample in samples):
            every = dict.fromkeys(key for sample in samples for key in sample)
            some = [key for key in every if not all(key in sample for sample in samples)]
            return f"only some have {listed(f'`{_below(place, key)}`' for key in some)}"
        keys = list(first)
    elif isinstance(first, list | tuple) and all(isinstance(s, list | tuple) and len(s) == len(first) for s in samples):
        keys = list(range(len(first)))
    else:
        return ""
    nested = (key for key in keys if isinstance(first[key], Mapping | list | tuple))
    found = (unequal_keys([sample[key] for sample in samples], _below(place, key)) for key in nested)
    return next(filter(None, found), "")


def _below(place: str, key: Any) -> str:
    return f"{place}.{key}" if place else str(key)


def unequal_shapes(samples: Sequence[Any]) -> str:
    """Describes the first tensors or arrays that are at the same place in all samples and differ in shape.

    Returns an empty string if there are none.

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
        if found := _unequal([value[key] for value in values], _below(place, key)):
            return found
    return ""
