"""Checkpoints without pickle: safetensors for the tensors, JSON for the rest, written completely or not at all."""

from audiozen_core.checkpoint.errors import (
    CheckpointWriteError,
    DamagedCheckpointError,
    NoCheckpointError,
    UnstorableStateError,
)
from audiozen_core.checkpoint.info import CheckpointInfo, LoadedCheckpoint
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.checkpoint.weights import average, load_weights

__all__ = [
    "CheckpointInfo",
    "CheckpointStore",
    "CheckpointWriteError",
    "DamagedCheckpointError",
    "LoadedCheckpoint",
    "NoCheckpointError",
    "UnstorableStateError",
    "average",
    "load_weights",
]
