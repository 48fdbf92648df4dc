"""What a run has to remember, so that it can be stopped and go on as if it had not been."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from audiozen_core.errors import CheckpointError, RunError


@runtime_checkable
class Stateful(Protocol):
    """Anything that can tell its state and take it back."""

    def state_dict(self) -> dict[str, Any]:
        """The state, in tensors and plain values."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Takes back what `state_dict` gave."""
        ...


@dataclass(slots=True)
class Progress:
    """How far the training is.

    Attributes:
        epoch: epochs completed.
        step: optimiser steps done.
        batch: batches done in the epoch that is under way, 0 between epochs.
        best_score: the best validation score so far.
        best_epoch: the epoch that reached it, 0 while there is none.
        batches: batches done in the epoch completed last.
        num_batches: batches that the epoch under way has, or the last one had; None where the data can't tell.
        stream_workers: the workers that the data of that epoch depend on; None where they do not.
    """

    epoch: int = 0
    step: int = 0
    batch: int = 0
    best_score: float | None = None
    best_epoch: int = 0
    batches: int = 0
    num_batches: int | None = None
    stream_workers: int | None = None

    def begin_epoch(self, num_batches: int | None, stream_workers: int | None) -> None:
        """An epoch of so many batches begins, or goes on in its midst.

        Raises:
            RunError: it is to go on in its midst, but the data are not those that it began with.
        """
        if self.batch and None not in (num_batches, self.num_batches) and num_batches != self.num_batches:
            raise RunError(
                f"epoch {self.epoch + 1} had {self.num_batches} batches when the checkpoint was saved in its midst, "
                f"and has {num_batches} now: the training data or their batches have changed",
                remedy="bring them back, or go on from the end of an epoch with --ckpt-path",
            )
        if self.batch and stream_workers != self.stream_workers:
            raise RunError(
                f"the data are a stream, which goes on in the midst of epoch {self.epoch + 1} with the workers that it "
                f"began with alone: {self.stream_workers or 0}, not {stream_workers or 0}",
                remedy="set `num_workers` back, or go on from the end of an epoch with --ckpt-path",
            )
        self.num_batches, self.stream_workers = num_batches, stream_workers

    def complete_epoch(self) -> None:
        """All batches of the epoch are done."""
        self.epoch, self.batch, self.batches = self.epoch + 1, 0, self.batch

    def reopen_epoch(self) -> None:
        """Back to the moment before `complete_epoch`: its validation was not finished."""
        self.epoch, self.batch = self.epoch - 1, self.batches

    @property
    def is_best(self) -> bool:
        """Whether the epoch completed last is the best one, and none is under way."""
        return self.best_epoch > 0 and self.best_epoch == self.epoch and self.batch == 0

    def state_dict(self) -> dict[str, Any]:
        """All numbers by name."""
        return asdict(self)

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Takes back what `state_dict` gave."""
        for item in fields(self):
            setattr(self, item.name, state_dict[item.name])


class RandomState:
    """The global generators of Python, NumPy, Torch and CUDA."""

    def state_dict(self) -> dict[str, Any]:
        """The state of each generator."""
        name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
        return {
            "python": random.getstate(),
            "numpy": {
                "name": name,
                "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
                "position": int(position),
                "has_gauss": int(has_gauss),
                "gauss": float(gauss),
            },
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Sets each generator; those of GPUs that are not here are left out."""
        version, internal, gauss_next = state_dict["python"]
        random.setstate((version, tuple(internal), gauss_next))
        numpy = state_dict["numpy"]
        keys = numpy["keys"].numpy().astype(np.uint32)
        np.random.set_state((numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["gauss"]))
        torch.set_rng_state(state_dict["torch"].cpu())
        for device, state in enumerate(state_dict["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state.cpu(), device)


class StateRegistry:
    """The list of all that is stateful in a run, each entry under the name that it has in a checkpoint."""

    def __init__(self) -> None:
        self._entries: dict[str, Stateful] = {}

    def register(self, name: str, entry: Stateful) -> None:
        """Adds an entry.

        Raises:
            ValueError: the name is taken.
            TypeError: the object has no `state_dict` and `load_state_dict`.
        """
        if name in self._entries:
            raise ValueError(f"the state `{name}` is registered twice")
        if not isinstance(entry, Stateful):
            raise TypeError(f"the state `{name}`, a {type(entry).__name__}, has no state_dict and load_state_dict")
        self._entries[name] = entry

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """The state of every entry, by name."""
        return {name: entry.state_dict() for name, entry in self._entries.items()}

    def load_state_dict(self, state_dict: Mapping[str, dict[str, Any]], /) -> None:
        """Gives every entry its state back; the entries must be exactly those that were saved.

        Raises:
            CheckpointError: an entry is missing or unknown, or refuses its state.
        """
        missing = sorted(self._entries.keys() - state_dict.keys())
        unknown = sorted(state_dict.keys() - self._entries.keys())
        if missing or unknown:
            parts = [f"it has nothing for {_names(missing)}"] * bool(missing)
            parts += [f"nothing here takes its {_names(unknown)}"] * bool(unknown)
            raise CheckpointError(
                f"the checkpoint does not fit the experiment: {'; '.join(parts)}",
                remedy="resume with the TOML that the run was started with, or start anew with `-M finetune`",
            )
        for name, entry in self._entries.items():
            try:
                entry.load_state_dict(state_dict[name])
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                raise CheckpointError(
                    f"the checkpoint's `{name}` does not fit: {' '.join(str(error).split())}",
                    remedy=f"has the section `[{name}]` been changed since the run was started?",
                ) from error


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
