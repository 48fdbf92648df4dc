"""Hands copies of their inputs to networks and losses, so that these can't change what is used afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from audiozen_core.data.tensors import map_tensors


def copy_inputs(module: nn.Module) -> None:
    """Makes a module work on copies of the tensors among its inputs, whenever it is called.

    Many networks change their input in place (`noisy /= scale`). Without a copy this would also change the batch, the
    noisy signal that is scored, and a tensor that the data set keeps. A copy costs far less than a forward pass.
    """
    if _pass_copies in module._forward_pre_hooks.values():
        return
    # A ScriptModule refuses its own `register_forward_pre_hook`, although its call runs such hooks.
    nn.Module.register_forward_pre_hook(module, _pass_copies, with_kwargs=True)


def protected(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns a function that works on copies of the tensors among its arguments; a module itself, which then does."""
    if isinstance(function, nn.Module):
        copy_inputs(function)
        return function
    return CopiesInputs(function)


class CopiesInputs:
    """Calls a function with copies of the tensors among its arguments. Its attributes are those of the function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        return self.function(*copied(args), **copied(kwargs))

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of the function."""
        return getattr(object.__getattribute__(self, "function"), name)


def copied(value: Any) -> Any:
    """Copies every tensor, as `map_tensors` finds them. Gradients flow through the copies."""
    return map_tensors(value, Tensor.clone)


def _pass_copies(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    return copied(args), copied(kwargs)
