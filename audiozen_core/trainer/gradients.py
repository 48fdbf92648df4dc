"""Manages the gradients of an optimiser step: averages, measures and clears them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from audiozen_core.diagnostics.listed import listed
from audiozen_core.distributed.ranks import ALONE, Ranks
from audiozen_core.errors import AudioZenError, HookError, RunError
from audiozen_core.kinds import section_name
from audiozen_core.trainer.nonfinite import GradientNorms, MeasuredGradients, Weight, all_weights
from audiozen_core.trainer.part_errors import explain_method_error

_MOST_SHAPES = 8


class Gradients:
    """The gradients that are accumulated over a window of batches into one optimiser step.

    Each loss is divided by the length of the window before it is back-propagated. Fewer batches contribute if an epoch
    ends, a batch is skipped, or a step returns losses only for some networks. `close_window` then corrects the
    gradients, so that they are always the mean over the batches that contributed.

    Args:
        parts: the modules that the optimiser of each suffix trains, by suffix and section: a network, and its loss
            function if the loss function has parameters.
        optimizers: the optimisers by suffix.
        window: the number of batches in a window.
        ranks: the processes of the run.

    Attributes:
        trained_suffixes: the suffixes whose network or loss function an optimiser changes.
    """

    def __init__(
        self,
        parts: Mapping[str, Mapping[str, nn.Module]],
        optimizers: Mapping[str, Optimizer],
        window: int,
        ranks: Ranks = ALONE,
    ) -> None:
        self.window = window
        self._ranks = ranks
        self._parts = parts
        self._optimizers = optimizers
        self._contributions: dict[str, int] = {}
        self._unreached = set(optimizers)
        self._has_looked = False
        # The latest norms, and the gradients that they were computed from, with their versions.
        self._measured: dict[str, MeasuredGradients] = {}
        self._marks: list[tuple[Tensor, int]] = []
        self.find_weights()

    def find_weights(self) -> None:
        """Finds the weights that the optimisers have now, because a hook can unfreeze weights between epochs.

        Raises:
            RunError: an optimiser has a weight that belongs to no network or loss function. Its gradient would not be
                averaged, measured or clipped, and checkpoints would not contain the weight.
        """
        weights = {suffix: all_weights(modules) for suffix, modules in self._parts.items()}
        owned = {id(weight.tensor) for suffix_weights in weights.values() for weight in suffix_weights}
        optimised: set[int] = set()
        for suffix, optimizer in self._optimizers.items():
            tensors = [tensor for group in optimizer.param_groups for tensor in group["params"]]
            optimised.update(map(id, tensors))
            if strange := [tensor for tensor in tensors if id(tensor) not in owned]:
                shapes = ", ".join(str(list(tensor.shape)) for tensor in strange[:_MOST_SHAPES])
                raise RunError(
                    f"[{section_name('optimizer', suffix)}] has {len(strange)} "
                    f"weight{'s' * (len(strange) > 1)} that no network or loss function has",
                    notes=[f"shapes: {shapes}{', …' * (len(strange) > _MOST_SHAPES)}"],
                    remedy="make them `nn.Parameter`s of the model or of the loss function; otherwise no checkpoint "
                    "would contain them",
                )
        self._trained: dict[str, list[Weight]] = {
            suffix: [weight for weight in suffix_weights if id(weight.tensor) in optimised]
            for suffix, suffix_weights in weights.items()
        }
        self.trained_suffixes = [suffix for suffix, trained in self._trained.items() if trained]
        # Weights without an optimiser, whose gradients are never used.
        self._others = [
            w.tensor for suffix_weights in weights.values() for w in suffix_weights if id(w.tensor) not in optimised
        ]
        self._norms = GradientNorms(self._trained, self._ranks)
        self._weights = [weight.tensor for suffix_weights in weights.values() for weight in suffix_weights]
        self._clearing = {
            suffix: optimizer for suffix, optimizer in self._optimizers.items() if _has_own_zero_grad(optimizer)
        }

    def untrained(self) -> dict[str, list[str]]:
        """Returns the names of the weights that require gradients, but that no optimiser trains, by section."""
        optimised = {id(weight.tensor) for weights in self._trained.values() for weight in weights}
        names = {
            section: [
                name for name, weight in part.named_parameters() if weight.requires_grad and id(weight) not in optimised
            ]
            for section, part in chain.from_iterable(modules.items() for modules in self._parts.values())
        }
        return {section: untrained for section, untrained in names.items() if untrained}

    def unreached(self) -> list[str]:
        """Returns the suffixes of the networks that an optimiser trains, but that had no gradient in any step.

        Returns an empty list before the first step, because a run can be resumed just before the end of an epoch.
        """
        return sorted(
            suffix
            for suffix in self._unreached
            if self._has_looked and any(weight.tensor.requires_grad for weight in self._trained.get(suffix, ()))
        )

    def check_no_new_weights(self) -> None:
        """Checks that no network or loss function has created parameters since `find_weights`.

        Raises:
            RunError: a module has new parameters that no optimiser trains.
        """
        known_ids = {id(weight.tensor) for suffix_weights in self._trained.values() for weight in suffix_weights}
        known_ids.update(map(id, self._others))
        for optimizer in self._optimizers.values():
            known_ids.update(id(tensor) for group in optimizer.param_groups for tensor in group["params"])
        for section, part in chain.from_iterable(modules.items() for modules in self._parts.values()):
            new = [
                name for name, weight in part.named_parameters() if weight.requires_grad and id(weight) not in known_ids
            ]
            if new:
                raise RunError(
                    f"[{section}] has created parameters since the training began, which no optimiser would train: "
                    f"{listed(f'`{name}`' for name in new)}",
                    remedy="create them in `__init__`; if their shapes depend on a batch, use lazy modules, such as "
                    "`nn.LazyLinear`",
                )

    def trained(self, suffix: str) -> list[Tensor]:
        """Returns the weights of one network and its loss function that an optimiser changes."""
        return [weight.tensor for weight in self._trained[suffix]]

    def inputs(self, suffix: str) -> list[Tensor]:
        """Returns the weights that the loss of one network trains.

        Raises:
            RunError: all of them are frozen.
        """
        parts = self._parts[suffix]
        inputs: list[Tensor] = [
            weight for part in parts.values() for weight in part.parameters() if weight.requires_grad
        ]
        if not inputs:
            raise RunError(
                f"`loss_{suffix}` has nothing to train: no weight of [{next(iter(parts))}] requires a gradient",
                remedy="don't return this loss, or return it under another name to record it",
            )
        return inputs

    def check_reached(self, suffix: str, *, reached: bool | None = None) -> None:
        """Checks that the loss of one suffix depends on its network or on the parameters of its loss function.

        Args:
            suffix: the suffix.
            reached: whether it does, if the caller knows; None to look for gradients.

        Raises:
            RunError: none of these weights has a gradient from this batch or an earlier batch of the window.
        """
        parts = self._parts[suffix]
        if reached is None:
            reached = any(weight.grad is not None for part in parts.values() for weight in part.parameters())
        if not reached:
            raise RunError(
                f"`loss_{suffix}` does not depend on any weight of [{next(iter(parts))}]",
                remedy="look for a `detach()` or `no_grad()`, or for losses with swapped names",
            )

    @property
    def present(self) -> bool:
        """Whether a batch of this window has contributed gradients."""
        return bool(self._contributions)

    @property
    def exist(self) -> bool:
        """Whether any trained weight has a gradient."""
        return any(weight.tensor.grad is not None for weights in self._trained.values() for weight in weights)

    def count(self, suffixes: Iterable[str]) -> None:
        """Counts a batch that has contributed to the gradients of these networks."""
        for suffix in suffixes:
            self._contributions[suffix] = self._contributions.get(suffix, 0) + 1

    def close_window(self) -> None:
        """Makes the gradients the mean over the batches that contributed. Records which networks have gradients."""
        for suffix, batches in self._contributions.items():
            if batches != self.window:
                for weight in self._trained[suffix]:
                    if weight.tensor.grad is not None:
                        weight.tensor.grad.mul_(self.window / batches)
        self._has_looked = True
        for suffix in self._unreached & self._contributions.keys() if self._unreached else ():
            if any(weight.tensor.grad is not None for weight in self._trained[suffix]):
                self._unreached.discard(suffix)

    def measure(self) -> dict[str, MeasuredGradients]:
        """Measures the gradients. Returns the norms for each network that has gradients, by suffix."""
        self._measured, self._marks = self._norms.measure(), self._present_marks()
        return self._measured

    def check(self) -> dict[str, MeasuredGradients]:
        """Checks the gradients. Returns an empty dict if all are finite, otherwise the same as `measure`."""
        return self._norms.check()

    def measured(self) -> dict[str, MeasuredGradients]:
        """Returns the result of `measure` in this step again, or measures again if a gradient has changed since.

        Changes through `gradient.data` are not detected, because they don't increment the version of the tensor.
        """
        marks = self._present_marks()
        same = len(marks) == len(self._marks) and all(
            now is then and version == before for (now, version), (then, before) in zip(marks, self._marks, strict=True)
        )
        return self._measured if marks and same else self.measure()

    def _present_marks(self) -> list[tuple[Tensor, int]]:
        gradients = [weight.tensor.grad for trained in self._trained.values() for weight in trained]
        return [(gradient, gradient._version) for gradient in gradients if gradient is not None]

    def explain_step_error(self, error: Exception, suffix: str, optimizer: Optimizer) -> None:
        """Explains an error of an optimiser's step, and whether sparse gradients may be the cause.

        Returns without an exception for an `AudioZenError`, an out-of-memory error, or an error that a hook probably
        caused, so that the caller can re-raise it.

        Raises:
            RunError: the explained error. It names the section, and a weight whose gradient may be the cause.
        """
        cause = error.__cause__ if isinstance(error, HookError) and error.__cause__ else error
        # If a hook steps the optimiser, the hook can be at fault. Errors of optimisers mostly have one of these types.
        is_from_hook = isinstance(error, HookError) and not isinstance(cause, RuntimeError | ValueError)
        if is_from_hook or isinstance(cause, AudioZenError | torch.OutOfMemoryError):
            return
        weights = self._trained.get(suffix, ())
        layouts = [(weight, weight.tensor.grad.is_sparse) for weight in weights if weight.tensor.grad is not None]
        sparse = [weight for weight, is_sparse in layouts if is_sparse]
        dense = [weight for weight, is_sparse in layouts if not is_sparse]
        notes = [
            f"gradients: {len(group)} of {len(layouts)} are {word}, such as the gradient of `{group[0].name}` of "
            f"`{group[0].section}`"
            for word, group in (("sparse", sparse), ("dense", dense))
            if group
        ]
        remedy = "change the optimiser or its arguments"
        if sparse:
            remedy = (
                "use torch.optim.SGD or torch.optim.Adagrad without `weight_decay` and `fused`, which accept sparse "
                "and dense gradients together, or torch.optim.SparseAdam if all gradients are sparse; or make the "
                f"gradient of `{sparse[0].name}` dense with `sparse = false` in its module, such as nn.Embedding"
            )
        elif isinstance(optimizer, torch.optim.SparseAdam):
            remedy = "SparseAdam is for networks whose gradients are all sparse: use torch.optim.Adam instead"
        what = f"[{section_name('optimizer', suffix)}] {type(optimizer).__name__} can't step:"
        raise RunError.caused_by(cause, what, notes=notes, remedy=remedy) from error

    def clear(self) -> None:
        """Clears all gradients, and begins a window.

        Raises:
            RunError: an optimiser can't clear its gradients.
        """
        for suffix, optimizer in self._clearing.items():
            try:
                optimizer.zero_grad(set_to_none=True)
            except Exception as error:
                explain_method_error(error, section_name("optimizer", suffix), optimizer, "zero_grad")
                raise
        for weight in self._weights:
            weight.grad = None
        self._marks = []
        self._contributions.clear()


def _has_own_zero_grad(optimizer: Optimizer) -> bool:
    """Returns whether an optimiser overrides `zero_grad`. Torch's own method is slow, and only clears gradients."""
    return "zero_grad" in vars(optimizer) or type(optimizer).zero_grad is not Optimizer.zero_grad
