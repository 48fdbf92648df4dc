"""Checkpoints without pickle: safetensors for the tensors, JSON for the rest, whole or not at all."""

from audiozen_core.checkpoint.errors import (
    CheckpointWriteError,
    DamagedCheckpointError,
    NoCheckpointError,
    UnstorableStateError,
)
from audiozen_core.checkpoint.store import CheckpointInfo, CheckpointStore, LoadedCheckpoint
from audiozen_core.checkpoint.weights import load_weights

__all__ = [
    "CheckpointInfo",
    "CheckpointStore",
    "CheckpointWriteError",
    "DamagedCheckpointError",
    "LoadedCheckpoint",
    "NoCheckpointError",
    "UnstorableStateError",
    "load_weights",
]
