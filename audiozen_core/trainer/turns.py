"""Coordinates the ranks of a run. In each turn, every rank trains on one batch, or on none.

The losses of a turn are weighted by their numbers of samples. The resulting gradient is the same as that of a single
process with all samples of the turn in one batch.
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
from audiozen_core.trainer.step_records import ScalarRow

_END: Any = object()


class Turns:
    """Coordinates each turn of a training run with the other ranks.

    Args:
        ranks: the processes of the run; at least two.
        settings: the section `[distributed]`.
        gradients: the gradients of this rank.
        ask_hooks: called on all ranks with the error if a loss or gradient is not finite on any rank. It returns if the
            turn is to be skipped, and raises an error otherwise.
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
        # The losses that any rank had in the current window, and the losses whose gradients are already averaged.
        self._window_losses: set[str] = set()
        self._averaged: set[str] = set()

    def note(self, error: NonFiniteError) -> None:
        """Stores the first error until `handle_error` passes it to the other ranks."""
        self._error = self._error or error

    def handle_error(self) -> bool:
        """Passes an error that any rank has noted to the hooks of all ranks.

        Returns:
            Whether there was an error. If so, the turn is to be skipped.
        """
        error, self._error = self._error, None
        own = None
        if error is not None:
            notes = (*error.notes, f"rank: {self._ranks.rank} of {self._ranks.size}")
            own = error.problem, error.location._replace(rank=self._ranks.rank), notes
        found = self._ranks.first(own)
        if found is None:
            return False
        self._ask_hooks(NonFiniteError(found[0], found[1], notes=found[2]))
        return True

    def in_turns(
        self, batches: Iterable[Any], start: int, total: int | None, *, drop_last: bool = False
    ) -> Iterator[Any]:
        """Yields the batches of this rank, and None in turns in which only other ranks have a batch.

        Args:
            batches: the batches of this rank.
            start: the number of completed turns.
            total: the number of turns of the whole epoch; None if it is unknown.
            drop_last: whether a turn in which a rank has no batch is dropped. `total` does not include such a turn.
        """
        rest = iter(batches)
        while total is None or start < total:
            batch = next(rest, _END)
            # Ranks find out only at the end of a stream that it has ended, so they must agree in each turn.
            if total is None:
                ended = [bool(end) for (end,) in self._ranks.exchange("end", batch is _END)]
                if any(ended) if drop_last else all(ended):
                    return
            yield None if batch is _END else batch
            start += 1

    def with_stand_in(self, item: Any) -> Any:
        """Returns the batch that this rank trains on in a turn.

        All ranks must call sharded networks together, to gather their weights. So a rank without a batch gets the batch
        of another rank as a stand-in, with the weight 0.

        Args:
            item: the batch of this rank; None if it has none.

        Returns:
            The batch to train on; None if the rank has no batch and needs no stand-in.
        """
        if self._sharded is None:
            return item
        has_batch = [bool(has) for (has,) in self._ranks.exchange("batch", item is not None)]
        if all(has_batch) or not any(has_batch):
            return item
        stand_in = self._ranks.from_rank(has_batch.index(True), item)
        return stand_in if item is None else item

    def exchange_losses(self, losses: Mapping[str, Tensor], samples: int, *, last: bool) -> dict[str, Tensor] | None:
        """Exchanges the losses of a turn with the other ranks, and weights them.

        Args:
            losses: the losses of this rank; empty if it has no batch.
            samples: the number of samples that the losses are the mean of.
            last: whether the gradients are averaged after this turn.

        Returns:
            The weighted losses of this rank; None if the turn is to be skipped.

        Raises:
            RunError: a rank does not train the same weights as rank 0, so torch would wait forever for gradients; or
                networks are sharded, and the ranks have different losses.
        """
        names = self._names
        own_mask = sum(1 << index for index, name in enumerate(names) if name in losses)
        exchanged = self._ranks.exchange(
            "turn", self._error is not None, own_mask, samples if losses else 0, self._trained_weights()
        )
        turn = [numbers[:3] for numbers in exchanged]
        if others := [rank for rank, (*_, trained) in enumerate(exchanged) if trained != exchanged[0][-1]]:
            raise RunError(
                f"rank {others[0]} does not train the same weights as rank 0",
                remedy="look for a hook or a trainer that changes `requires_grad` only on some ranks",
            )
        if any(failed for failed, _, _ in turn) and self.handle_error():
            if self._sharded:
                self._sharded.forget_turn()
            return None
        union_mask, total = 0, 0
        for _, mask, count in turn:
            union_mask, total = union_mask | mask, total + count
        present = [name for index, name in enumerate(names) if union_mask & 1 << index]
        self._window_losses.update(present)
        for name in present:
            if name not in losses:
                self._gradients.count(self._suffixes(name))
        share = samples * self._ranks.size / max(total, 1)
        weighted = {name: loss if share == 1 else loss * share for name, loss in losses.items()}
        if self._sharded:
            _check_same(present, [mask for _, mask, _ in turn], names)
            return weighted
        for name in self._to_average if last else ():
            # If a rank lacks this loss, its gradients are averaged in `average` instead.
            if all(mask & 1 << names.index(name) for _, mask, _ in turn):
                self._prepare(name)
                weighted[name] = self._sync.pass_through_gate(name, weighted[name])
                self._averaged.add(name)
        return weighted

    def average(self) -> None:
        """Averages the gradients that were not averaged in a backward pass, and begins a window."""
        for name in self._to_average:
            if name not in self._averaged and not self._sharded:
                self._prepare(name)
                self._sync.average(name)
        if self._sharded:
            self._sharded.drop_unused()
        self._window_losses.clear()
        self._averaged.clear()

    @property
    def _names(self) -> list[str]:
        """The possible names of losses, in the same order on all ranks."""
        return ["loss", *(f"loss_{suffix}" for suffix in self._gradients.trained_suffixes if suffix)]

    @property
    def _to_average(self) -> list[str]:
        """The names of the losses in the window. `loss` alone is enough, because it covers all weights."""
        return (
            ["loss"] if "loss" in self._window_losses else [name for name in self._names if name in self._window_losses]
        )

    def _trained_weights(self) -> int:
        """Returns a checksum of which weights are frozen."""
        weights = (weight for suffix in self._gradients.trained_suffixes for weight in self._gradients.trained(suffix))
        return zlib.crc32(bytes(weight.requires_grad for weight in weights))

    def _suffixes(self, name: str) -> list[str]:
        return self._gradients.trained_suffixes if name == "loss" else [name.removeprefix("loss_")]

    def _prepare(self, name: str) -> None:
        weights = [weight for suffix in self._suffixes(name) for weight in self._gradients.trained(suffix)]
        self._sync.prepare(name, weights)

    def share_weights(self, modules: Mapping[str, nn.Module]) -> None:
        """Copies the weights and buffers of rank 0 to all ranks, in case the ranks built their networks differently.

        Only the first call does this.
        """
        if not self._has_shared:
            weights = [weight.detach() for part in modules.values() for weight in part.parameters()]
            self._ranks.share_tensors([weight for weight in weights if not is_sharded(weight)])
            if self._sharded:
                self._sharded.find_leaves()
            self.share_buffers(modules)
            self._has_shared = True

    def share_buffers(self, modules: Mapping[str, nn.Module]) -> None:
        """Copies the buffers of rank 0 to all ranks. A running mean, for example, depends on the batches of a rank."""
        self._ranks.share_tensors([buffer for part in modules.values() for buffer in part.buffers()])

    def check_weights(self, modules: Mapping[str, nn.Module]) -> None:
        """Checks that all ranks have the same weights, as they must after each optimiser step.

        Raises:
            RunError: the weights of a rank differ, so its gradients don't fit the other ranks.
        """
        all_weights = [weight.detach() for part in modules.values() for weight in part.parameters()]
        weights = [weight for weight in all_weights if not is_sharded(weight)]
        norms = torch.stack([norm.cpu().double() for norm in torch._foreach_norm(weights)]).tolist() if weights else []
        if others := self._ranks.differing_ranks(norms):
            raise RunError(
                f"the weights of rank {others[0]} differ from the weights of rank 0",
                remedy="look for a hook or a trainer that changes weights only on some ranks, or with random numbers, "
                "which differ between ranks",
            )

    def combine(self, rows: Sequence[ScalarRow]) -> list[ScalarRow]:
        """Combines the rows of all ranks: each scalar becomes the mean over all samples of its batch or step."""
        by_number: dict[int, list[ScalarRow]] = {}
        for row in (row for rank_rows in self._ranks.gather(list(rows)) for row in rank_rows):
            by_number.setdefault(row.number, []).append(row)
        return [_combined(number, by_number[number]) for number in sorted(by_number)]


def _check_same(present: Sequence[str], masks: Sequence[int], names: Sequence[str]) -> None:
    for name in present:
        if lacking := [rank for rank, mask in enumerate(masks) if not mask & 1 << names.index(name)]:
            raise RunError(
                f"the training step returned `{name}` on some ranks, but not on rank {lacking[0]}",
                remedy='return the same losses on all ranks, or train with `strategy = "data_parallel"` in '
                "[distributed]; with sharded networks, all ranks must average gradients together",
            )


def _combined(number: int, rows: Sequence[ScalarRow]) -> ScalarRow:
    names = dict.fromkeys(name for row in rows for name in row.scalars)
    means = {name: _mean([(row.samples, row.scalars[name]) for row in rows if name in row.scalars]) for name in names}
    return ScalarRow(number, sum(row.samples for row in rows), means)


def _mean(parts: Sequence[tuple[int, float]]) -> float:
    values = {value for _, value in parts}
    if len(values) == 1:  # the mean is then exact, also for values that were already combined
        return values.pop()
    try:
        return math.fsum(samples * value for samples, value in parts) / sum(samples for samples, _ in parts)
    except (ValueError, OverflowError):  # inf together with -inf, or a sum that is too large
        return math.nan
