"""Decides which results of a training step are losses to train, and which are only recorded."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from audiozen_core.errors import RunError
from audiozen_core.kinds import section_name
from audiozen_core.logging import get_logger
from audiozen_core.trainer.module_state import unwrapped


class LossChoice:
    """Chooses the losses among the results of a training step.

    If the step returns `loss`, it is the only loss, and trains all networks. Otherwise, each `loss_<suffix>` is the
    loss of the network with this suffix, if an optimiser trains the network. All other results are only recorded.

    Args:
        step: the name of the step, for messages.
    """

    def __init__(self, step: str) -> None:
        self.step = step
        self._has_warned = False

    def choose(self, result: Any, suffixes: Collection[str]) -> dict[str, Tensor]:
        """Returns the losses by name.

        Warns once if the step returns both `loss` and `loss_<suffix>`, because `loss` then trains the network.

        Args:
            result: the result of `training_step`: a loss, or a mapping.
            suffixes: the suffixes of the networks to train.

        Raises:
            RunError: the step returned no loss, or a loss can't be back-propagated.
        """
        if type(result) is not dict and not isinstance(result, Mapping):
            result = {"loss": result}
        if len(suffixes) == 1 and "loss" in result:  # a fast path for most training runs
            _check("loss", result["loss"])
            return {"loss": result["loss"]}
        network_losses = [f"loss_{suffix}" for suffix in suffixes if suffix]
        losses = {name: result[name] for name in (["loss"] if "loss" in result else network_losses) if name in result}
        if not losses:
            names = _or([f"`{name}`" for name in ("loss", *network_losses)])
            raise RunError(
                f"{self.step} returned no `loss`, but {sorted(map(str, result))}",
                remedy=f"return {names}; other names are only recorded",
            )
        for name, loss in losses.items():
            _check(name, loss)
        recorded = [name for name in network_losses if name in result and name not in losses]
        if recorded and len(suffixes) > 1 and not self._has_warned:
            self._has_warned = True
            self._warn(recorded, suffixes)
        return losses

    def _warn(self, recorded: Sequence[str], suffixes: Collection[str]) -> None:
        networks = " and ".join(f"[{section_name('model', suffix)}]" for suffix in suffixes)
        remedy = "to train each network with its own loss, don't return `loss`"
        if "" in suffixes:
            free = next(letter for letter in "gab" if letter not in suffixes)
            remedy = (
                f"to train each network with its own loss, give [model] a suffix too, such as [model_{free}] with "
                f"[optimizer_{free}], and return `loss_{free}` instead of `loss`"
            )
        get_logger().warning(
            f"{self.step} returns `loss`, which trains {networks}; "
            f"{_and([f'`{name}`' for name in recorded])} {'is' if len(recorded) == 1 else 'are'} only recorded",
            remedy=remedy,
        )


class LossOfModules(nn.Module):
    """Wraps a loss function that is not a module, but holds modules, which become children of the wrapper.

    All other attributes are looked up in the function.

    Args:
        function: the loss function.
        held: the modules that the function holds, by name.
    """

    def __init__(self, function: Callable[..., Any], held: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.function = function
        # The names come from the user's code, so they can contain dots or be names of methods. `add_module` would
        # reject such names.
        for name, module in held.items():
            child = name.replace(".", "_")
            # Two names can collide, such as the attribute `nets_0` and the first entry of the list `nets`. The order is
            # fixed, so the resulting names are the same in every run.
            while child in self._modules:
                child += "_"
            self._modules[child] = module

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

    Frozen parts always stay in evaluation mode, because the running statistics of a pretrained network inside a loss
    must not change. A module counts as frozen, with all its children, if it has parameters and none of them requires a
    gradient. The loss itself, an `nn.ModuleList` and an `nn.ModuleDict` count as frozen only if they also have a
    parameter directly, because they can hold other children that must follow the mode.
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
    if loss is None and name != "loss":
        raise RunError(
            f"`{name}` is None", remedy="leave the key out of the dict in a step that does not train this network"
        )
    if not isinstance(loss, Tensor) or loss.numel() != 1 or loss.is_complex():
        got = "None" if loss is None else f"a {type(loss).__name__}"
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


def _and(names: list[str]) -> str:
    return " and ".join(names)
