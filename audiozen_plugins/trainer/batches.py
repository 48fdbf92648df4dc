"""Checks the batches of the trainers `enhancement` and `separation`, from any data set and any collate function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from audiozen_core.data.description import describe, describe_entries, sample_notes
from audiozen_core.diagnostics.printable import fit_for_file
from audiozen_core.errors import DataError
from audiozen_core.kinds import Mode

_COLLATE = (
    'return dicts with the required keys from the data set; `collate_fn = "audiozen.dataset.pad_collate"` makes '
    "batches of them"
)


def enhancement_batch(
    batch: Any,
    mode: Mode,
    *,
    sr: int,
    wait: bool = True,
    targets: Sequence[str] = ("clean",),
    optional: bool = False,
) -> dict[str, Any]:
    """Checks a batch, and returns it with waves in float32 and IDs as strings.

    Args:
        batch: the batch of the data loader, on the device.
        mode: the mode. Validation, test and prediction need `id`, and prediction does not need the targets.
        sr: the sample rate of `[acoustics]`, in hertz.
        wait: whether to compare sample rates that are on a GPU, too. The CPU must then wait for the GPU.
        targets: the keys of the waves that the network estimates.
        optional: whether a test may lack the targets.

    Returns:
        A dict with `noisy` and the targets (float32 [batch, time]), `id` (list of str that fit into file names), and
        the other entries unchanged.

    Raises:
        DataError: the batch is not a dict, lacks a key, has a value of the wrong type or shape, or has another sample
            rate.
    """
    without = mode == "predict" or (mode == "test" and optional)
    needed = ("noisy", *(() if without else targets), *(() if mode == "train" else ("id",)))
    if not isinstance(batch, Mapping):
        raise DataError(f"the batch is {describe(batch)}, but must be a dict with {_listed(needed)}", remedy=_COLLATE)
    notes = sample_notes(batch)
    for key in needed:
        if key not in batch:
            raise DataError(
                f"the batch has no `{key}`; it has {describe_entries(batch)}, but must have {_listed(needed)}",
                remedy=_COLLATE,
                notes=notes,
            )
    checked = dict(batch)
    for key in ("noisy", *targets):
        if key in batch:
            checked[key] = _waves(key, batch[key], notes)
    count = len(checked["noisy"])
    for key in targets:
        if key in checked and checked[key].shape != checked["noisy"].shape:
            raise DataError(
                f"`{key}` is {describe(batch[key])}, but `noisy` is {describe(batch['noisy'])}",
                remedy=f"give a {key} wave of the same length for each noisy wave",
                notes=notes,
            )
    if "id" in checked:
        ids = checked["id"]
        # Torch's own collate function makes a tensor of IDs that are numbers.
        ids = ids.tolist() if isinstance(ids, Tensor) and ids.ndim == 1 and mode != "train" else ids
        if mode != "train" and (not isinstance(ids, list | tuple) or len(ids) != count):
            raise DataError(
                f"`id` is {describe(batch['id'])}, but must be a list of {count} strings, one for each sample",
                remedy=_COLLATE,
            )
        # Files are named after the IDs.
        checked["id"] = [fit_for_file(str(one)) for one in ids] if isinstance(ids, list | tuple) else ids
    if others := sorted(_rates(checked.get("sr"), wait=wait) - {sr}):
        shown = " and ".join(f"{rate:g}" for rate in others)
        raise DataError(
            f"the batch has audio of {shown} Hz, but [acoustics] says `sr = {sr}`",
            remedy="in [acoustics] and in the arguments of the data set, set `sr` to the sample rate of your files",
            notes=notes,
        )
    return checked


def _rates(value: Any, *, wait: bool) -> set[float]:
    """Returns the set of sample rates in a batch. `value` is its `sr`: a number, a list or a tensor."""
    if isinstance(value, Tensor) and value.device.type != "cpu" and not wait:
        return set()
    if isinstance(value, Tensor | np.ndarray):
        value = value.tolist()
    values = value if isinstance(value, list | tuple) else [value]
    return {rate for rate in values if isinstance(rate, int | float)}


def _waves(key: str, value: Any, notes: Sequence[str]) -> Tensor:
    if isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 2 and value.numel() > 0:
        return value.float()
    remedy = "let the data set return waves of one channel as [time]"
    if isinstance(value, Tensor) and value.is_complex():
        remedy = "let the data set return the waveform, not a spectrogram"
    elif isinstance(value, Tensor) and value.numel() == 0:
        remedy = "leave empty waves out of the data set: each needs at least one sample"
    elif isinstance(value, Tensor) and not value.is_floating_point():
        remedy = "scale the waves to -1 … 1 in the data set: divide int16 by 32768, for example"
    raise DataError(
        f"`{key}` of the batch is {describe(value)}, but must be floats of the shape [batch, time]",
        remedy=remedy,
        notes=notes,
    )


def _listed(needed: Sequence[str]) -> str:
    *most, last = [f"`{key}`" for key in needed]
    return f"{', '.join(most)} and {last}"
