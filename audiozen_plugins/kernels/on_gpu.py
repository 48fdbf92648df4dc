"""Kernels for the GPU, which Triton compiles at their first call. Triton comes with PyTorch for CUDA and ROCm."""

from __future__ import annotations

import importlib.util
import os

import torch

from audiozen_plugins.kernels.plain_forms import kernels_are_wanted


def is_available(device: torch.device) -> bool:
    """Whether Triton can run kernels on tensors of a device. Without it, callers use their plain form.

    With `TRITON_INTERPRET=1`, Triton also runs kernels on the CPU, slowly. So they can be tested without a GPU.
    """
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    fits = device.type == "cuda" or interpreted
    return kernels_are_wanted() and fits and importlib.util.find_spec("triton") is not None
