"""Kernels for the GPU, which Triton compiles when they are first called. PyTorch for CUDA or ROCm includes Triton."""

from __future__ import annotations

import importlib.util
import os

import torch

from audiozen_plugins.kernels.plain_forms import kernels_are_wanted


def is_available(device: torch.device) -> bool:
    """Whether Triton can run kernels on tensors of a device. If not, callers must use the plain form of the kernel.

    With `TRITON_INTERPRET=1`, Triton also runs kernels on the CPU, slowly. So they can be tested without a GPU.
    """
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    fits = device.type == "cuda" or interpreted
    return kernels_are_wanted() and fits and importlib.util.find_spec("triton") is not None
