"""Weights alone: out of a checkpoint, or out of any safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def load_weights(
    path: Path, *, owner: str = "model", map_location: torch.device | str = "cpu"
) -> dict[str, torch.Tensor]:
    """The weights in a checkpoint's folder, or in a bare `.safetensors` file: name to tensor.

    Args:
        path: the folder of a checkpoint (`exp/baseline/checkpoints/best`) or a file.
        owner: which of a checkpoint's states; of no matter for a file.
        map_location: the device for the tensors.

    Raises:
        NoCheckpointError: there is nothing of that name.
        DamagedCheckpointError: it can't be trusted, and why.
    """
    raise NotImplementedError
