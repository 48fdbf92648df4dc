"""The list of all that is stateful in a trainer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from audiozen_core.trainer.components import section_name
from audiozen_core.trainer.state import RandomState, StateRegistry

if TYPE_CHECKING:
    from audiozen_core.trainer.base_trainer import BaseTrainer


def ledger_of(trainer: BaseTrainer) -> StateRegistry:
    """Registers each part under its name: the section of the TOML, `hook_<name>`, or what the trainer calls it.

    A loss is among them if it has weights or buffers, such as a running mean.
    """
    ledger = StateRegistry()
    for suffix, model in trainer.models.items():
        ledger.register(section_name("model", suffix), model)
    for suffix, loss in trainer.loss_functions.items():
        if isinstance(loss, nn.Module) and loss.state_dict():
            ledger.register(section_name("loss_function", suffix), loss)
    for suffix, optimizer in trainer.optimizers.items():
        ledger.register(section_name("optimizer", suffix), optimizer)
    for suffix, entry in trainer.lr_schedulers.items():
        ledger.register(section_name("lr_scheduler", suffix), entry.scheduler)
    for name, plugin in trainer.hooks.stateful():
        ledger.register(f"hook_{name}", plugin)
    ledger.register("progress", trainer.progress)
    ledger.register("scalars", trainer.scalars)
    ledger.register("nonfinite", trainer.nonfinite)
    ledger.register("bad_data", trainer.bad_data)
    ledger.register("rng", RandomState())
    return ledger
