"""How the ranks of a run train together: in each turn, every rank has one batch, or none.

The losses of a turn are weighted by their numbers of samples, so that the gradient is that of one process which has all
samples of the turn in one batch.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from audiozen_core.distributed.ranks import Ranks
from audiozen_core.distributed.settings import Distributed
from audiozen_core.distributed.sharding import is_sharded
from audiozen_core.errors import RunError
from audiozen_core.hooks.nonfinite import NonFiniteError
from audiozen_core.trainer.gradient_sync import GradientSync
from audiozen_core.trainer.gradients import Gradients
from audiozen_core.trainer.sharded_gradients import ShardedGradients
from audiozen_core.trainer.step_records import Row

_END: Any = object()


class Turns:
    """Agrees with the other ranks about each turn of a training.

    Args:
        ranks: the processes of the run, more than one.
        settings: the section `[distributed]`.
        gradients: the gradients of this rank.
        ask_hooks: called on all ranks with the error for a loss or gradient that is not finite on one of them; returns
            if the turn is to be left out, and raises an error otherwise.
        sharded: the gradients of the sharded networks; None if the networks are not sharded.
    """

    def __init__(
        self,
        ranks: Ranks,
        settings: Distributed,
        gradients: Gradients,
        ask_hooks: Callable[[NonFiniteError], None],
        sharded: ShardedGradients | None = None,
    ) -> None:
        self._ranks = ranks
        self._gradients = gradients
        self._ask_hooks = ask_hooks
        self._sync = GradientSync(ranks, settings)
        self._sharded = sharded
        self._error: NonFiniteError | None = None
        self._has_shared = False
        # The losses that any rank has had in the present window, and those whose gradients have been averaged.
        self._of_window: set[str] = set()
        self._averaged: set[str] = set()

    def note(self, error: NonFiniteError) -> None:
        """Remembers the first error until the other ranks can be told."""
        self._error = self._error or error

    def settle(self) -> bool:
        """Lets the hooks of all ranks handle an error that any rank has noted.

        Returns:
            Whether there was one. The turn is then to be left out.
        """
        error, self._error = self._error, None
        own = None
        if error is not None:
            notes = (*error.notes, f"rank: {self._ranks.rank} of {self._ranks.size}")
            own = error.what, error.location._replace(rank=self._ranks.rank), notes
        found = self._ranks.first(own)
        if found is None:
            return False
        self._ask_hooks(NonFiniteError(found[0], found[1], notes=found[2]))
        return True

    def in_turns(
        self, batches: Iterable[Any], start: int, total: int | None, *, drop_last: bool = False
    ) -> Iterator[Any]:
        """Yields the batches of this rank, and None in the turns in which only other ranks have one.

        Args:
            batches: the batches of this rank.
            start: the number of turns that are done.
            total: the number of turns of the whole epoch; None if it is not known.
            drop_last: whether a turn in which a rank has no batch is left out. If `total` is known, it does not count
                such a turn.
        """
        rest = iter(batches)
        while total is None or start < total:
            batch = next(rest, _END)
            # The ranks read different parts of a stream, and only know at its end that it has ended.
            if total is None:
                ended = [bool(end) for (end,) in self._ranks.exchange("end", batch is _END)]
                if any(ended) if drop_last else all(ended):
                    return
            yield None if batch is _END else batch
            start += 1

    def with_stand_in(self, item: Any) -> Any:
        """Returns what a rank trains on in a turn.

        The ranks gather the weights of sharded networks together. So one without a batch works on that of another rank,
        with the weight 0.

        Args:
            item: the batch of this rank; None if it has none.

        Returns:
            The batch to work on; None if there is none in this turn.
        """
        if self._sharded is None:
            return item
        have = [bool(has) for (has,) in self._ranks.exchange("batch", item is not None)]
        if all(have) or not any(have):
            return item
        other = self._ranks.from_rank(have.index(True), item)
        return other if item is None else item

    def agree(self, losses: Mapping[str, Tensor], samples: int, *, last: bool) -> dict[str, Tensor] | None:
        """Agrees about the losses of a turn.

        Args:
            losses: the losses of this rank; empty if it has no batch.
            samples: how many samples they are the mean of.
            last: whether the gradients are to be averaged after this turn.

        Returns:
            The losses of this rank, weighted; None if the turn is to be left out.

        Raises:
            RunError: a rank has frozen other weights than rank 0. Torch would wait for its gradients.
        """
        names = self._names
        own = sum(1 << index for index, name in enumerate(names) if name in losses)
        exchanged = self._ranks.exchange(
            "turn", self._error is not None, own, samples if losses else 0, self._trained_weights()
        )
        turn = [numbers[:3] for numbers in exchanged]
        if others := [rank for rank, (*_, trained) in enumerate(exchanged) if trained != exchanged[0][-1]]:
            raise RunError(
                f"rank {others[0]} trains other weights than rank 0",
                remedy="look for a hook or a trainer that changes `requires_grad` on some ranks only",
            )
        if any(failed for failed, _, _ in turn) and self.settle():
            if self._sharded:
                self._sharded.forget_turn()
            return None
        every, total = 0, 0
        for _, mask, count in turn:
            every, total = every | mask, total + count
        present = [name for index, name in enumerate(names) if every & 1 << index]
        self._of_window.update(present)
        for name in present:
            if name not in losses:
                self._gradients.count(self._suffixes(name))
        share = samples * self._ranks.size / max(total, 1)
        weighted = {name: loss if share == 1 else loss * share for name, loss in losses.items()}
        if self._sharded:
            _check_same(present, [mask for _, mask, _ in turn], names)
            return weighted
        for name in self._to_average if last else ():
            # Where a rank has no such loss, `average` follows.
            if all(mask & 1 << names.index(name) for _, mask, _ in turn):
                self._prepare(name)
                weighted[name] = self._sync.through(name, weighted[name])
                self._averaged.add(name)
        return weighted

    def average(self) -> None:
        """Averages the gradients that no backward pass of this rank has averaged, and begins a window."""
        for name in self._to_average:
            if name not in self._averaged and not self._sharded:
                self._prepare(name)
                self._sync.average(name)
        if self._sharded:
            self._sharded.drop_unused()
        self._of_window.clear()
        self._averaged.clear()

    @property
    def _names(self) -> list[str]:
        """The names that losses may have, in an order that is the same on all ranks."""
        return ["loss", *(f"loss_{suffix}" for suffix in self._gradients.trained_suffixes if suffix)]

    @property
    def _to_average(self) -> list[str]:
        """The losses of the window. `loss` covers the weights of all others."""
        return ["loss"] if "loss" in self._of_window else [name for name in self._names if name in self._of_window]

    def _trained_weights(self) -> int:
        """Returns a number that depends on which weights are frozen."""
        weights = (weight for suffix in self._gradients.trained_suffixes for weight in self._gradients.trained(suffix))
        return zlib.crc32(bytes(weight.requires_grad for weight in weights))

    def _suffixes(self, name: str) -> list[str]:
        return self._gradients.trained_suffixes if name == "loss" else [name.removeprefix("loss_")]

    def _prepare(self, name: str) -> None:
        weights = [weight for suffix in self._suffixes(name) for weight in self._gradients.trained(suffix)]
        self._sync.prepare(name, weights)

    def share_weights(self, modules: Mapping[str, nn.Module]) -> None:
        """Gives all ranks the weights and buffers of rank 0, which are the same unless they were built differently."""
        if not self._has_shared:
            weights = [weight.detach() for part in modules.values() for weight in part.parameters()]
            self._ranks.share_tensors([weight for weight in weights if not is_sharded(weight)])
            if self._sharded:
                self._sharded.find_leaves()
            self.share_buffers(modules)
            self._has_shared = True

    def share_buffers(self, modules: Mapping[str, nn.Module]) -> None:
        """Gives all ranks the buffers of rank 0. A running mean, for example, depends on the batches of its rank."""
        self._ranks.share_tensors([buffer for part in modules.values() for buffer in part.buffers()])

    def check_weights(self, modules: Mapping[str, nn.Module]) -> None:
        """Checks that all ranks have the same weights, as they must have after each optimiser step.

        Raises:
            RunError: a rank has others. Its gradients would then be those of another network.
        """
        every = [weight.detach() for part in modules.values() for weight in part.parameters()]
        weights = [weight for weight in every if not is_sharded(weight)]
        norms = torch.stack([norm.cpu().double() for norm in torch._foreach_norm(weights)]).tolist() if weights else []
        if others := self._ranks.differing(norms):
            raise RunError(
                f"the weights of rank {others[0]} differ from those of rank 0",
                remedy="look for a hook or a trainer that changes weights on some ranks only, or from random numbers; "
                "each rank has its own",
            )

    def combine(self, rows: Sequence[Row]) -> list[Row]:
        """Combines the rows of all ranks: each scalar becomes the mean over all samples of its batch or step."""
        found: dict[int, list[Row]] = {}
        for row in (row for of_rank in self._ranks.gather(list(rows)) for row in of_rank):
            found.setdefault(row.number, []).append(row)
        return [_combined(number, found[number]) for number in sorted(found)]


def _check_same(present: Sequence[str], masks: Sequence[int], names: Sequence[str]) -> None:
    for name in present:
        if lacking := [rank for rank, mask in enumerate(masks) if not mask & 1 << names.index(name)]:
            raise RunError(
                f"the training step has returned `{name}` on some ranks, but not on rank {lacking[0]}",
                remedy='return the same losses on all ranks, or train with `strategy = "data_parallel"` in '
                "[distributed]: the ranks can only average the gradients of sharded networks together",
            )


def _combined(number: int, rows: Sequence[Row]) -> Row:
    names = dict.fromkeys(name for row in rows for name in row.scalars)
    means = {name: _mean([(row.samples, row.scalars[name]) for row in rows if name in row.scalars]) for name in names}
    return Row(number, sum(row.samples for row in rows), means)


def _mean(parts: Sequence[tuple[int, float]]) -> float:
    values = {value for _, value in parts}
    if len(values) == 1:  # exact, also for what has been combined before
        return values.pop()
    try:
        return math.fsum(samples * value for samples, value in parts) / sum(samples for samples, _ in parts)
    except (ValueError, OverflowError):  # inf together with -inf, or a sum that is too large
        return math.nan
