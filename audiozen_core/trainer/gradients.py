"""The gradients of an optimiser step: whose they are, how they are averaged over batches, and when they are cleared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from torch import Tensor, nn
from torch.optim import Optimizer

from audiozen_core.trainer.nonfinite import GradientNorms, MeasuredGradients, Weight, named_weights


class Gradients:
    """The gradients that are accumulated over a window of batches into one optimiser step.

    Each loss is divided by the length of the window before it is back-propagated. A window may turn out shorter: an
    epoch ends, a batch is skipped, or a step returns the losses of some networks only. `average` corrects the gradients
    then, so that they are always the mean over the batches that contributed.

    Args:
        parts: the modules that the optimiser of each suffix trains, by suffix and section: a network, and its loss
            function if that has parameters.
        optimizers: the optimisers by suffix.
        window: the number of batches in a window.
    """

    def __init__(
        self, parts: Mapping[str, Mapping[str, nn.Module]], optimizers: Mapping[str, Optimizer], window: int
    ) -> None:
        self.window = window
        self._parts = parts
        self._optimizers = optimizers
        self._contributions = Counter[str]()
        self.find_weights()

    def find_weights(self) -> None:
        """Finds the weights that the optimisers have now. A hook may unfreeze some between epochs."""
        optimised = {
            id(w) for optimizer in self._optimizers.values() for g in optimizer.param_groups for w in g["params"]
        }
        weights = {suffix: named_weights(modules) for suffix, modules in self._parts.items()}
        self._trained: dict[str, list[Weight]] = {
            suffix: [weight for weight in of_suffix if id(weight.tensor) in optimised]
            for suffix, of_suffix in weights.items()
        }
        # These get gradients too, for instance those of a network without an optimiser, but nothing uses them.
        self._others = [w.tensor for of_suffix in weights.values() for w in of_suffix if id(w.tensor) not in optimised]
        self._norms = GradientNorms(self._trained)

    def trained(self, suffix: str) -> list[Tensor]:
        """Returns the weights of one network and its loss function that an optimiser changes."""
        return [weight.tensor for weight in self._trained[suffix]]

    def inputs(self, suffix: str) -> list[Tensor]:
        """Returns the weights that the loss of one network trains."""
        return [weight for part in self._parts[suffix].values() for weight in part.parameters() if weight.requires_grad]

    @property
    def present(self) -> bool:
        """Whether a batch of this window has contributed gradients."""
        return bool(self._contributions)

    def count(self, suffixes: Sequence[str]) -> None:
        """Counts a batch that has contributed to the gradients of these networks."""
        self._contributions.update(suffixes)

    def average(self) -> None:
        """Makes the gradients the mean over the batches that contributed."""
        for suffix, batches in self._contributions.items():
            if batches != self.window:
                for weight in self._trained[suffix]:
                    if weight.tensor.grad is not None:
                        weight.tensor.grad.mul_(self.window / batches)

    def measure(self) -> dict[str, MeasuredGradients]:
        """Returns the norms of the gradients of each network that has any, by suffix."""
        return self._norms.measure()

    def clear(self) -> None:
        """Clears all gradients, and begins a window."""
        for optimizer in self._optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        for weight in self._others:
            weight.grad = None
        self._contributions.clear()
