"""Loads the weights of trained losses when finetuning starts from a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audiozen_core.checkpoint.format.manifest import read_manifest, read_state
from audiozen_core.checkpoint.weights import load_weights
from audiozen_core.kinds import section_name
from audiozen_core.logging import get_logger
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.module_state import ModuleState

_KIND = "loss_function"


def load_losses(trainer: BaseTrainer, path: Path) -> None:
    """Loads the weights of the losses that the run trains, and warns about weights that are not loaded.

    Finetuning may use a different loss from the original run, so weights that do not fit cause only a warning. A frozen
    loss keeps the weights that its constructor has loaded, because its arguments may deliberately name weights that
    differ from the checkpoint.

    Args:
        trainer: the trainer.
        path: the folder of a checkpoint.
    """
    folder = path.resolve()
    owners = read_state(folder, read_manifest(folder))
    saved = {owner for owner in owners if owner == _KIND or owner.startswith(f"{_KIND}_")}
    losses = {section_name(_KIND, suffix): loss for suffix, loss in trainer.loss_functions.items()}
    log = get_logger()
    for section, loss in losses.items():
        trains = isinstance(loss, nn.Module) and any(weight.requires_grad for weight in loss.parameters())
        if section not in saved:
            if trains:
                log.warning(
                    f"[{section}] keeps the weights that it was built with, because the checkpoint has none for it",
                    checkpoint=str(path),
                )
            continue
        weights = load_weights(path, owner=section, map_location=trainer.state_device)
        state = ModuleState(loss) if isinstance(loss, nn.Module) else None
        fits = state is not None and not state.compare(weights)
        if state and trains and fits:
            state.load_state_dict(weights)
            log.info(f"the weights of [{section}] are loaded", checkpoint=str(path))
        elif not (state and fits and _same(state.state_dict(), weights)):
            why = "the loss is frozen in this run" if fits else "the weights do not fit"
            log.warning(f"the weights of [{section}] are not loaded: {why}", checkpoint=str(path))
    if unused := sorted(saved - losses.keys()):
        log.warning(
            "the checkpoint has weights of losses that this run does not have",
            losses=", ".join(unused),
            checkpoint=str(path),
        )


def _same(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Returns whether two states with the same names have equal tensors."""
    pairs = [(value, second[name]) for name, value in first.items() if isinstance(value, Tensor)]
    return all(torch.equal(*pair) for pair in pairs)
