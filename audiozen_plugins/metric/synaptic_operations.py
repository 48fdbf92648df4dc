"""Synaptic operations of a spiking network."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from audiozen_core.errors import RunError


class SynapticOperations:
    """Synaptic operations of a spiking network, in millions per second of audio.

    They are counted while the network enhances a file. A spike costs one operation for each neuron that it reaches, so
    the number depends on the file. Timcheck et al., "The Intel Neuromorphic DNS Challenge", 2023, call this number
    SynOPS and use it as a proxy for the energy. Their proxy for the power also adds ten times the number of neuron
    updates. These updates do not depend on the file, and are not counted here. An input that is not a spike, such as a
    magnitude, counts like a spike if it is not zero.

    The metric needs the network, so only a test can compute it. The value of the noisy signal is 0. If a file is
    enhanced in chunks, the overlap of two chunks is computed twice, and counts twice. A module is counted if it has a
    method `synaptic_operations(input, output)` that returns the number for one call. The modules of `sdnn` and
    `spiking_fullsubnet` have this method.
    """

    name = "synaptic_operations"
    label = "SynOps"
    unit = "M/s"
    higher_is_better = False
    needs = ("noisy", "network")

    def __init__(self) -> None:
        self._counts: list[Tensor] = []
        self._watches = False

    @contextmanager
    def watch(self, model: nn.Module) -> Iterator[None]:
        """Counts the operations of a network.

        Raises:
            RunError: no module of the network counts its operations.
        """
        counted = [module for module in model.modules() if hasattr(module, "synaptic_operations")]
        if not counted:
            raise RunError(
                f"{self.label} can't be counted, because no module of {type(model).__name__} counts its operations",
                remedy="use a spiking network, such as `sdnn`, or leave `synaptic_operations` out of the metrics",
            )
        hooks = [module.register_forward_hook(self._count) for module in counted]
        self._counts, self._watches = [], True
        try:
            yield
        finally:
            self._watches = False
            for hook in hooks:
                hook.remove()

    def _count(self, module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        with torch.no_grad():
            self._counts.append(module.synaptic_operations(*inputs, output))

    def __call__(
        self, estimate: Tensor, reference: Tensor | None = None, *, sr: int, noisy: Tensor | None = None
    ) -> float:
        """Returns the operations for one file, in millions per second of audio; 0 for the noisy signal itself.

        Raises:
            RunError: the metric does not watch a network.
        """
        if noisy is not None and torch.equal(estimate, noisy):
            return 0.0
        if not self._watches:
            raise RunError(
                f"{self.label} needs the network", remedy="use it in a test, inside `with metric.watch(model):`"
            )
        counts, self._counts = self._counts, []
        if not estimate.numel():
            return math.nan
        return sum(int(count) for count in counts) * sr / estimate.shape[-1] / 1e6

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_counts": [], "_watches": False}  # hooks stay with the network
