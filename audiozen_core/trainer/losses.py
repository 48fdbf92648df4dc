"""The losses of a training step: which of its results are trained, and which are only recorded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor, nn

from audiozen_core.errors import RunError


def trained_losses(result: Any, suffixes: Collection[str], *, step: str) -> dict[str, Tensor]:
    """Returns the losses among the results of a training step, by name.

    `loss` trains everything, and is then the only loss. Without it, each `loss_<suffix>` is the loss of the network
    with this suffix. Everything else is only recorded, whatever its name is.

    Args:
        result: what `training_step` returned: a loss, or a mapping.
        suffixes: the suffixes of the networks.
        step: the name of the step, for messages.

    Raises:
        RunError: there is no loss, or a loss can't be back-propagated.
    """
    if not isinstance(result, Mapping):
        result = {"loss": result}
    names = ["loss"] if "loss" in result else [f"loss_{suffix}" for suffix in suffixes if suffix]
    losses = {name: result[name] for name in names if name in result}
    if not losses:
        raise RunError(
            f"{step} returned no `loss`, but {sorted(map(str, result))}",
            remedy=f"return {_or([f'`{name}`' for name in ('loss', *names)])}; other names are only recorded",
        )
    for name, loss in losses.items():
        _check(name, loss)
    return losses


def follow_mode(module: nn.Module, *, training: bool) -> None:
    """Switches a loss to training or evaluation mode.

    Its frozen parts always stay in evaluation mode, because nobody trains the running means of a pretrained network
    that only measures. A part is frozen if it has parameters, and none of them requires a gradient.
    """
    module.train(training)
    for part in module.modules() if training else ():
        weights = list(part.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            part.eval()


def _check(name: str, loss: object) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.is_complex():
        got = f"a tensor of shape {list(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        only = "; a value that is only recorded needs another name" if name == "loss" else ""
        raise RunError(f"`{name}` is {got}", remedy=f"return a real tensor of one element, such as the mean{only}")
    if not loss.requires_grad:
        raise RunError(
            f"`{name}` does not depend on any weight that is trained",
            remedy="look for a `detach()` or `no_grad()` between the model and the loss",
        )


def _or(names: list[str]) -> str:
    return " or ".join(names)
