"""Decides which parameters are trained, counts them, and rejects parameters that would be left untrained by mistake."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from audiozen_core.config.sections import Component, LossComponent
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.listed import pronoun
from audiozen_core.errors import BuildError
from audiozen_core.kinds import section_name
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.held_modules import held_modules, held_parameters, unregistered, unsaved_statistics
from audiozen_core.trainer.losses import LossOfModules


def check_registered(section: Component, part: nn.Module) -> None:
    """Raises an error if a network or a loss holds an unregistered module or parameter, for example in a plain list.

    Modules and parameters that never change are allowed; see `unregistered`.
    """
    if name := unregistered(part):
        raise BuildError(
            f"{section.header} holds `{name}`, but does not register it, so it is not trained, not saved, and not "
            "switched to evaluation mode",
            code=config_codes.UNFIT,
            remedy=f"register it in {_class(part)}: as an attribute, or in `nn.ModuleList`, `nn.ModuleDict` or "
            "`nn.ParameterList` instead of a list or dict; if it never changes, call `requires_grad_(False)` and, for "
            "a module, `eval()` instead",
        )


def with_held_modules(section: LossComponent, loss: Any) -> Any:
    """Wraps a loss function that holds modules in an `nn.Module`.

    Thanks to the wrapper, the modules are trained, saved, moved to the device, and switched to evaluation mode. A loss
    function that is itself a module, or that holds no modules, is returned unchanged.

    Raises:
        BuildError: the loss is a module that does not register all of its modules; or the loss is not a module, but
            holds a parameter or has its own `state_dict`.
    """
    if isinstance(loss, nn.Module):
        check_registered(section, loss)
        return loss
    for name, weight in held_parameters(loss).items():
        if weight.requires_grad:
            raise BuildError(
                f"{section.header} has the parameter `{name}`, but is not an nn.Module, so it can't be trained",
                code=config_codes.UNFIT,
                remedy=f"make {_class(loss)} an nn.Module that has it as an attribute, or in an nn.ParameterList",
            )
    held = held_modules(loss)
    if held and hasattr(loss, "state_dict"):
        raise BuildError(
            f"{section.header} holds the module `{next(iter(held))}` and defines a `state_dict`, but is not an "
            "nn.Module",
            code=config_codes.UNFIT,
            remedy=f"make {_class(loss)} an nn.Module that registers it, for example in nn.ModuleList",
        )
    return LossOfModules(loss, held) if held else loss


def decide_training(section: LossComponent, suffix: str, loss: Any, optimizers: Collection[str]) -> list[nn.Parameter]:
    """Applies `trainable` to a loss function.

    Args:
        section: the section of the loss function.
        suffix: the suffix of the section.
        loss: the loss function.
        optimizers: the suffixes of the optimisers.

    Returns:
        The parameters that the optimiser with the same suffix will train. If the loss is not trainable, its parameters
        are frozen.

    Raises:
        BuildError: `trainable` is missing, or contradicts the loss or the optimisers.
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
            weight.requires_grad = False  # a lazy parameter has no method `requires_grad_`
        return []
    optimizer = section_name("optimizer", suffix)
    if section.trainable is None:
        raise BuildError(
            f"{section.header} has {_counted(weights)}, but does not say whether it is trained",
            code=config_codes.MISSING_KEY,
            remedy=f"set `trainable = true` in {section.header} to train it with [{optimizer}], or `trainable = false` "
            "to freeze it",
        )
    if optimizers and suffix not in optimizers:
        existing = ", ".join(f"[{section_name('optimizer', other)}]" for other in sorted(optimizers))
        raise BuildError(
            f"{section.header} says `trainable = true`, but the file has no [{optimizer}], only {existing}",
            code=config_codes.NO_PARTNER,
            place=("trainable",),
            remedy="give the loss function the suffix of the optimiser that should train it",
        )
    return list(weights.values())


def check_untrained(section: Component, part: Any) -> None:
    """Raises an error if an object that no optimiser trains, such as a data set, has parameters that require gradients.

    Objects within the object are searched too.
    """
    weights = _trainable(part) | _held_trainable(held_parameters(part), held_modules(part))
    if weights:
        raise BuildError(
            f"{section.header} has {_counted(weights)}, but no optimiser trains {pronoun(len(weights))}",
            code=config_codes.UNFIT,
            remedy=f"freeze it in {_class(part)} with `requires_grad_(False)`, or move it to [model] to train it",
        )


def check_trainer(section: Component, trainer: BaseTrainer) -> None:
    """Raises an error if a trainer holds parameters that require gradients, or running means, without registering them.

    No optimiser would train such a parameter, and no checkpoint would save it.
    """
    others = [part for of_kind in trainer.others.values() for part in of_kind.values()]
    registered = (trainer.hooks, trainer.state, *trainer.state.parts(), *trainer.modules.values(), *others)
    modules = held_modules(trainer, registered)
    weights = _held_trainable(held_parameters(trainer, registered), modules)
    register = f"if {_class(trainer)} changes it itself, register it in `__init__` with `self.state.register`"
    if weights:
        raise BuildError(
            f"{section.header} has {_counted(weights)}, but no optimiser trains {pronoun(len(weights))}, and no "
            f"checkpoint has {pronoun(len(weights))}",
            code=config_codes.UNFIT,
            remedy="move it to a separate section, such as [model_x], and add an optimiser for it; or freeze it with "
            f"`requires_grad_(False)`; or, {register}",
        )
    for name, module in modules.items():
        # A module whose parameters are frozen is only used in evaluation mode, so its running means do not change.
        if next(module.parameters(), None) is None and (means := unsaved_statistics(module)):
            raise BuildError(
                f"{section.header} has the running mean `{name}.{means[0]}`, which changes in training, but is in no "
                "checkpoint",
                code=config_codes.UNFIT,
                remedy=f"call `eval()` on the module, so that the mean does not change; or, {register}",
            )


def count_trained(modules: Mapping[str, nn.Module]) -> dict[str, int]:
    """Returns the number of trained weights of each section. Sections without trained weights are left out.

    Args:
        modules: the networks and losses of a trainer, by section.
    """
    counts = {
        # The shapes of a lazy loss are unknown until its first call, which may be as late as the first validation.
        section: sum(weight.numel() for weight in _trainable(part).values() if not is_lazy(weight))
        for section, part in modules.items()
    }
    return {section: count for section, count in counts.items() if count}


def _trainable(part: Any) -> dict[str, nn.Parameter]:
    """Returns the parameters of a module that require gradients, by name; empty if the object is not a module."""
    if not isinstance(part, nn.Module):
        return {}
    return {name: weight for name, weight in part.named_parameters() if weight.requires_grad}


def _held_trainable(weights: Mapping[str, nn.Parameter], modules: Mapping[str, nn.Module]) -> dict[str, nn.Parameter]:
    found = {name: weight for name, weight in weights.items() if weight.requires_grad}
    for name, module in modules.items():
        found |= {f"{name}.{inner}": weight for inner, weight in _trainable(module).items()}
    return found


def _counted(weights: Mapping[str, nn.Parameter]) -> str:
    first, *others = weights
    more = f" and {len(others)} more parameters that require gradients" if others else ", which requires a gradient"
    return f"the parameter `{first}`{more}"


def _class(part: Any) -> str:
    while isinstance(part, LossOfModules | functools.partial):
        part = part.function if isinstance(part, LossOfModules) else part.func
    return getattr(part, "__name__", type(part).__name__)
