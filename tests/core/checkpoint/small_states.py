"""Saves and loads small states, each identified by one number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from audiozen_core.checkpoint.store import CheckpointStore


def state(value: float = 1.0) -> dict[str, Any]:
    return {"model": {"layer.weight": torch.full((2, 2), value)}, "trainer": {"epoch": 3, "betas": (0.9, None)}}


def save(store: CheckpointStore, *epochs: int, **arguments: Any) -> None:
    for epoch in epochs:
        store.save(state(float(epoch)), epoch=epoch, step=10 * epoch, **arguments)


def names(store: CheckpointStore) -> list[str]:
    return [info.path.name for info in store.list()]


def weight(store: CheckpointStore, which: Any = "latest") -> float:
    return store.load(which).state["model"]["layer.weight"][0, 0].item()


def damage(path: Path) -> None:
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-1] ^= 1
    (path / "model.safetensors").write_bytes(content)
