"""Copies scalars from a GPU to the CPU without making the CPU wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor


class HostCopy:
    """An asynchronous copy of scalars to the CPU.

    `float(tensor)` and `tensor.item()` wait for all work queued on the GPU so far, even if the value was computed long
    ago. This class queues the copies when it is created. Reading the values later waits only for the copies, not for
    work that was queued after them.

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
                    self._values[name] = value.detach().to("cpu", non_blocking=True)
                else:
                    self._values[name] = value.item()  # read now, because the tensor may be changed in place later
        if on_gpu:  # one event for each GPU, because a network can be spread over several GPUs
            self._copied = [torch.cuda.current_stream(device).record_event() for device in on_gpu]

    def read(self) -> dict[str, float]:
        """Returns the values. Waits until they are copied."""
        for copied in self._copied:
            copied.synchronize()
        return {name: float(value) for name, value in self._values.items()}
