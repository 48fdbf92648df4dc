"""Decides what happens to the parameters of losses and data sets, which might be expected to train; counts them."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from audiozen_core.config.sections import Component, LossComponent
from audiozen_core.diagnostics import config_codes
from audiozen_core.errors import BuildError
from audiozen_core.experiment.held_modules import held_modules
from audiozen_core.kinds import section_name
from audiozen_core.trainer.losses import LossOfModules


def with_held_modules(section: LossComponent, loss: Any) -> Any:
    """Returns a loss function as a module if it holds modules, so that they are trained, saved, moved and switched.

    Raises:
        BuildError: the loss is a module that does not register all of its modules, or it saves its state itself.
    """
    held = held_modules(loss)
    if not held:
        return loss
    first = next(iter(held))
    remedy = f"make {_class(loss)} an nn.Module that registers it, for example in nn.ModuleList"
    if isinstance(loss, nn.Module):
        raise BuildError(
            f"{section.header} holds the module `{first}`, but does not register it, so it is neither trained, nor "
            "saved, nor in evaluation mode in a validation",
            code=config_codes.UNFIT,
            remedy=remedy,
        )
    if hasattr(loss, "state_dict"):
        raise BuildError(
            f"{section.header} holds the module `{first}` and has a `state_dict` of its own, but is not an nn.Module",
            code=config_codes.UNFIT,
            remedy=remedy,
        )
    return LossOfModules(loss, held)


def decide_training(section: LossComponent, suffix: str, loss: Any, optimizers: Collection[str]) -> list[nn.Parameter]:
    """Applies `trainable` to a loss function.

    Args:
        section: the section of the loss function.
        suffix: its suffix.
        loss: the loss function.
        optimizers: the suffixes of the optimisers.

    Returns:
        The parameters that the optimiser of the same suffix is to train. A loss that is not trainable is frozen.

    Raises:
        BuildError: `trainable` is missing, or can't be.
    """
    weights = _trainable(loss)
    if section.trainable and not weights:
        raise BuildError(
            f"{section.header} says `trainable = true`, but {_class(loss)} has no parameters to train",
            code=config_codes.BAD_VALUE,
            place=("trainable",),
            remedy="leave `trainable` out",
        )
    if not weights or section.trainable is False:
        for weight in weights.values():
            weight.requires_grad_(False)
        return []
    optimizer = section_name("optimizer", suffix)
    if section.trainable is None:
        raise BuildError(
            f"{section.header} has {_counted(weights)}, but does not say whether it is trained",
            code=config_codes.MISSING_KEY,
            remedy=f"set `trainable = true` in {section.header} to train it with [{optimizer}], or `trainable = false` "
            "to keep it as it is",
        )
    if optimizers and suffix not in optimizers:
        there = ", ".join(f"[{section_name('optimizer', other)}]" for other in sorted(optimizers))
        raise BuildError(
            f"{section.header} says `trainable = true`, but there is no [{optimizer}], only {there}",
            code=config_codes.NO_PARTNER,
            place=("trainable",),
            remedy="give the loss function the suffix of the optimiser that is to train it",
        )
    return list(weights.values())


def check_untrained(section: Component, part: Any) -> None:
    """Raises an error for a part, such as a data set, that could be trained, because no optimiser gets it.

    Its parameters that require gradients are found in it, and in the modules that it holds.
    """
    weights = _trainable(part)
    for name, module in held_modules(part).items():
        weights |= {f"{name}.{inner}": weight for inner, weight in _trainable(module).items()}
    if weights:
        raise BuildError(
            f"{section.header} has {_counted(weights)}, but no optimiser trains them",
            code=config_codes.UNFIT,
            remedy=f"freeze it in {_class(part)} with `requires_grad_(False)`, or move it to [model] to train it",
        )


def count_trained(modules: Mapping[str, nn.Module]) -> dict[str, int]:
    """Returns how many trained parameters each section has. A section without any is left out.

    Args:
        modules: the networks and losses of a trainer, by section.
    """
    counts = {
        # A lazy loss that only evaluates has no shapes yet.
        section: sum(weight.numel() for weight in _trainable(part).values() if not is_lazy(weight))
        for section, part in modules.items()
    }
    return {section: count for section, count in counts.items() if count}


def _trainable(part: Any) -> dict[str, nn.Parameter]:
    """Returns the parameters of a module that require gradients, by name; empty for anything else."""
    if not isinstance(part, nn.Module):
        return {}
    return {name: weight for name, weight in part.named_parameters() if weight.requires_grad}


def _counted(weights: Mapping[str, nn.Parameter]) -> str:
    first, *others = weights
    more = f" and {len(others)} more parameters that require gradients" if others else ", which requires a gradient"
    return f"the parameter `{first}`{more}"


def _class(part: Any) -> str:
    while isinstance(part, LossOfModules | functools.partial):
        part = part.function if isinstance(part, LossOfModules) else part.func
    return getattr(part, "__name__", type(part).__name__)
