"""The losses of a training step: which of its results are trained, and which are only recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from torch import Tensor, nn

from audiozen_core.errors import RunError
from audiozen_core.trainer.module_state import unwrapped


def trained_losses(result: Any, suffixes: Collection[str], *, step: str) -> dict[str, Tensor]:
    """Returns the losses among the results of a training step, by name.

    `loss` trains everything, and is then the only loss. Without it, each `loss_<suffix>` is the loss of the network
    with this suffix. Everything else is only recorded, whatever its name is.

    Args:
        result: what `training_step` returned: a loss, or a mapping.
        suffixes: the suffixes of the networks.
        step: the name of the step, for messages.

    Raises:
        RunError: the step returned no loss, or a loss can't be back-propagated.
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


class LossOfModules(nn.Module):
    """A loss function that is not a module itself, with the modules that it uses as its children.

    Its other attributes are those of the function.

    Args:
        function: the loss function.
        held: the modules that it holds, by name.
    """

    def __init__(self, function: Callable[..., Any], held: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.function = function
        # `add_module` refuses dots and the names of methods, but these are names in code that we did not write.
        self._modules.update({name.replace(".", "_"): module for name, module in held.items()})

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        return self.function(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        """Returns a child, or an attribute of the function."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "function" not in self.__dict__:
                raise
            return getattr(self.function, name)


def follow_mode(module: nn.Module, *, training: bool) -> None:
    """Switches a loss to training or evaluation mode.

    Its frozen parts always stay in evaluation mode, because nobody trains the running means of a pretrained network
    that only measures. A part is frozen, with everything in it, if it has parameters, and none of them requires a
    gradient. The loss itself, `nn.ModuleList` and `nn.ModuleDict` need a frozen parameter of their own for that: what
    they hold beside a frozen part, such as a running mean, follows the mode.
    """
    module.train(training)
    loss = unwrapped(module)
    for part in module.modules() if training else ():
        weights = list(part.parameters())
        if not weights or any(weight.requires_grad for weight in weights):
            continue
        holds_parts = part is loss or part is module or isinstance(part, nn.ModuleList | nn.ModuleDict)
        if not holds_parts or next(part.parameters(recurse=False), None) is not None:
            part.eval()


def _check(name: str, loss: object) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.is_complex():
        got = f"a {type(loss).__name__}"
        if isinstance(loss, Tensor):
            got = f"a {'complex ' * loss.is_complex()}tensor of shape {list(loss.shape)}"
        only = "; a value that is only recorded needs another name" if name == "loss" else ""
        raise RunError(f"`{name}` is {got}", remedy=f"return a real tensor of one element, such as the mean{only}")
    if not loss.requires_grad:
        raise RunError(
            f"`{name}` does not depend on any weight that is trained",
            remedy="look for a `detach()` or `no_grad()` between the model and the loss",
        )


def _or(names: list[str]) -> str:
    return " or ".join(names)
