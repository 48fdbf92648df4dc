"""Copies scalars from a GPU to the CPU without making the CPU wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class HostCopy:
    """The values of some scalars, copied to the CPU behind the work that computes them.

    `float(tensor)` and `tensor.item()` wait for everything that has been queued on the GPU so far, even if the value
    itself has been known for a long time. This copy is queued at once, so that reading it later waits for nothing that
    was queued after it.

    Args:
        scalars: numbers, and tensors of one element on any device.
    """

    def __init__(self, scalars: Mapping[str, Any]) -> None:
        self._values = dict(scalars)
        self._copied: Sequence[torch.cuda.Event] = ()
        on_gpu: dict[torch.device, None] = {}
        for name, value in scalars.items():
            if isinstance(value, Tensor):
                if value.is_cuda:
                    on_gpu[value.device] = None
                    self._values[name] = value.to("cpu", non_blocking=True)
                else:
                    self._values[name] = value.item()  # at once, because its owner may change it later
        if on_gpu:  # one event a GPU, because a network may be spread over several
            self._copied = [torch.cuda.current_stream(device).record_event() for device in on_gpu]

    def read(self) -> dict[str, float]:
        """Returns the values. Waits only until they have been copied."""
        for copied in self._copied:
            copied.synchronize()
        return {name: float(value) for name, value in self._values.items()}
