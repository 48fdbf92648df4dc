"""Adapts the state of an optimiser whose parameter groups have changed since a checkpoint was saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from audiozen_core.kinds import section_name
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.module_state import parameter_names


def regroup_state(
    saved: Mapping[str, Any], fresh: Mapping[str, Any], trainer: BaseTrainer, suffix: str
) -> dict[str, Any]:
    """Returns a saved state with the groups of a new optimiser, and with each parameter's state under its new number.

    An optimiser numbers its parameters in the order of its groups. In the state, the groups of the TOML file contain
    the names of their parameters. Without such groups, the parameters are in the order of the network.

    Args:
        saved: the optimiser's state in the checkpoint.
        fresh: the state of the new optimiser.
        trainer: the trainer of the new optimiser.
        suffix: the suffix of the new optimiser.
    """
    before, now = (_numbers(state, trainer, suffix) for state in (saved, fresh))
    moved = {now[name]: saved["state"][number] for name, number in before.items() if number in saved["state"]}
    return {**saved, "state": moved, "param_groups": fresh["param_groups"]}


def _numbers(state: Mapping[str, Any], trainer: BaseTrainer, suffix: str) -> dict[str, int]:
    """Returns the number of each parameter in a state, by name."""
    groups = state["param_groups"]
    numbers = [number for group in groups for number in group["params"]]
    names = [name for group in groups for name in group.get("param_names", ())] or _in_order(trainer, suffix)
    return dict(zip(names, numbers, strict=True))


def _in_order(trainer: BaseTrainer, suffix: str) -> list[str]:
    """Returns the names of an optimiser's parameters in the order of the network and its loss."""
    optimised = {id(weight) for group in trainer.optimizers[suffix].param_groups for weight in group["params"]}
    names: dict[int, str] = {}
    for section, module in trainer.modules_of(suffix).items():
        prefix = "" if section == section_name("model", suffix) else f"{section}."
        for name, weight in parameter_names(module).items():
            if id(weight) in optimised:
                names.setdefault(id(weight), f"{prefix}{name}")
    return list(names.values())
