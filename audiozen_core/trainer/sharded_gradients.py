"""Handles the gradients of sharded networks: which weights were used, and which weights a loss trains.

FSDP itself averages the gradients. For each forward and backward pass, it gathers the sharded weights into whole
tensors, which are the leaves of the autograd graph. It then adds the averaged gradients of the leaves to the gradients
of the sharded weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from audiozen_core.distributed.ranks import Ranks
from audiozen_core.distributed.settings import Distributed
from audiozen_core.distributed.sharding import forget_calls, is_sharded, sharded_units
from audiozen_core.errors import AudioZenError, RunError


class ShardedGradients:
    """The sharded weights of a run, and a record of which weights were used in the current window.

    Args:
        ranks: the processes of the run.
        settings: the section `[distributed]`.
        modules: the networks and losses by section.
    """

    def __init__(self, ranks: Ranks, settings: Distributed, modules: Mapping[str, nn.Module]) -> None:
        self._ranks = ranks
        self._modules = modules
        self._finds_unused = settings.find_unused_parameters
        self._weights: list[Tensor] = []
        self._leaves: dict[int, Tensor] = {}
        self._used: set[int] = set()

    def find_leaves(self) -> None:
        """Finds the leaf of each sharded weight. All ranks must call it before the first backward pass."""
        if self._weights:
            return
        for module in self._modules.values():
            named = {name: weight for name, weight in module.named_parameters() if is_sharded(weight)}
            self._weights += named.values()
            for unit in sharded_units([module]):
                unit.unshard()
                for name, leaf in module.named_parameters():
                    if name in named and not is_sharded(leaf):
                        self._watch(id(named[name]), leaf)
                unit.reshard()

    def _watch(self, weight: int, leaf: Tensor) -> None:
        self._leaves[weight] = leaf
        is_trained = leaf.requires_grad
        leaf.requires_grad_(True)  # torch requires it for the hook below, and a frozen weight can be unfrozen later
        leaf.register_post_accumulate_grad_hook(lambda _: self._used.add(weight))  # type: ignore[no-untyped-call]
        leaf.requires_grad_(is_trained)

    @contextmanager
    def only_of(self, weights: Sequence[Tensor] | None) -> Iterator[list[Tensor] | None]:
        """Provides the leaves of some weights for a backward pass. The gradients of all other weights don't change.

        Args:
            weights: the weights that a loss trains; None for all.
        """
        if weights is None:
            with self.explained():
                yield None
            return
        chosen = set(map(id, weights))
        others = [(weight, weight.grad) for weight in self._weights if id(weight) not in chosen]
        for weight, _ in others:
            weight.grad = None
        with self.explained():
            yield [self._leaves[id(weight)] for weight in weights]
        for weight, gradient in others:
            weight.grad = gradient

    def has_used(self, weights: Sequence[Tensor]) -> bool:
        """Returns whether this rank has used any of the weights in the current window."""
        return not self._used.isdisjoint(map(id, weights))

    def drop_unused(self) -> None:
        """Sets to None the gradients of the weights that no rank has used, and begins a new window.

        All ranks must call it. Without this method, these gradients would be zero, and with a gradient of zero, weight
        decay would change the weights.
        """
        if self._finds_unused:
            used_by_rank = self._ranks.gather([id(weight) in self._used for weight in self._weights])
            for weight, *flags in zip(self._weights, *used_by_rank, strict=True):
                if not any(flags):
                    weight.grad = None
        self._used.clear()

    def forget_turn(self) -> None:
        """Forgets the calls of the networks in a turn that is skipped."""
        forget_calls(list(self._modules.values()))

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Explains errors of a training step that calls sharded networks.

        Raises:
            PeerError: another rank has ended.
            RunError: weights of a sharded network were used outside of a call.
        """
        try:
            yield
        except Exception as error:
            # The trainer may already have translated the error of a network.
            cause = error.__cause__ if isinstance(error, AudioZenError) else error
            if not isinstance(cause, RuntimeError):
                raise
            self._ranks.explain(cause)
            if "DTensor" not in str(cause):
                raise
            raise RunError.caused_by(
                cause,
                "weights of a sharded network were used while neither the network nor the module that they are "
                "gathered with was being called:",
                remedy="call the network itself, or add the method that you call to `forward_methods` of "
                "[distributed]; if the network uses weights of its layers directly, set larger modules in "
                "`shard_classes`",
            ) from cause
