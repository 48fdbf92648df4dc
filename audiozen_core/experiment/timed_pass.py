"""Runs and times a forward and a backward pass of one batch outside a run."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from audiozen_core.trainer.base_trainer import BaseTrainer


def run_pass(trainer: BaseTrainer, batch: Any, batch_idx: int) -> dict[str, Tensor]:
    """Runs a batch forward and backward, waits for the GPU, and returns the losses.

    Only the hook `autocast` is called, because other hooks may need something that their plugin prepares at the start
    of a run.
    """
    losses, _ = trainer.forward_batch(batch, batch_idx)
    trainer.backward_losses(losses, ask_hooks=False)
    wait(trainer.device)
    return {name: loss.detach() for name, loss in losses.items()}


def timed_pass(trainer: BaseTrainer, batch: Any, batch_idx: int) -> float:
    """Runs a forward and a backward pass, and returns their duration in seconds."""
    started = time.perf_counter()
    run_pass(trainer, batch, batch_idx)
    return time.perf_counter() - started


def wait(device: torch.device) -> None:
    """Waits until a GPU has finished all work. Torch itself does not wait, so measured times would be wrong."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
