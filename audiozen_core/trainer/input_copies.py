"""Passes copies of the inputs to networks and losses, so that they can't change tensors that are used later."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from audiozen_core.data.tensors import map_tensors
from audiozen_core.logging import get_logger
from audiozen_core.trainer.module_state import unwrapped


def copy_inputs(module: nn.Module) -> None:
    """Makes every call of a module work on copies of the input tensors.

    Many networks change their input in place (`noisy /= scale`). Without a copy, this would also change the batch, the
    noisy signal that is scored later, and tensors that the data set keeps. A copy costs far less than a forward pass.
    """
    if _pass_copies in module._forward_pre_hooks.values():
        return
    # The method of a ScriptModule raises an error, although calls of a ScriptModule run such hooks.
    nn.Module.register_forward_pre_hook(module, _pass_copies, with_kwargs=True)


def report_changed_inputs(module: nn.Module, name: str) -> None:
    """Warns once if a module changes any argument other than the first one in place.

    Such an argument can be a state that the caller expects to be updated, for example in a streaming network. But the
    module works on copies, so the caller's state does not change. A module that was compiled in place is not watched.

    Args:
        module: the module. `copy_inputs` must have been called for it.
        name: the name of the module for the warning.
    """
    watched = any(isinstance(hook, _Watch) for hook in module._forward_hooks.values())
    if not watched and _takes_further_inputs(module):
        nn.Module.register_forward_hook(module, _Watch(name), with_kwargs=True)


def _takes_further_inputs(module: nn.Module) -> bool:
    """Returns whether a module can be called with more than one argument; True if it has no signature."""
    try:
        parameters = inspect.signature(unwrapped(module).forward).parameters.values()
    except (TypeError, ValueError):  # a compiled function has no signature
        return True
    return len(parameters) != 1 or any(item.kind in (item.VAR_POSITIONAL, item.VAR_KEYWORD) for item in parameters)


class _Watch:
    def __init__(self, name: str) -> None:
        self.name = name
        self.is_done = False

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        # During compilation, reading the version would become an operation of the graph.
        if self.is_done or not (args[1:] or kwargs) or torch.compiler.is_compiling():
            return
        for argument in _changed(module, args, kwargs):
            self.is_done = True
            get_logger().warning(
                f"{self.name} changes its argument `{argument}` in place, but it works on copies of its inputs, so the "
                "tensors of the caller don't change",
                remedy="if the argument is a state that the next call needs, return the new state from `forward`",
            )


def _changed(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """Returns the names of the arguments with a changed tensor, not counting the first argument."""
    positions = [position for position, value in enumerate(args) if position and _has_changed(value)]
    named = [name for name, value in kwargs.items() if _has_changed(value)]
    if not positions and not named:
        return []
    try:
        parameters = list(inspect.signature(unwrapped(module).forward).parameters.values())
    except (TypeError, ValueError):  # a compiled function has no signature
        parameters = []
    names = [item.name for item in parameters if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    changed = [names[position] if position < len(names) else f"number {position + 1}" for position in positions]
    return changed + [name for name in named if args or name not in names[:1]]


def _has_changed(value: Any) -> bool:
    versions: list[int] = []
    map_tensors(value, functools.partial(_note_version, versions))
    return any(versions)  # a new copy has the version 0, and each change in place increments it


def _note_version(versions: list[int], tensor: Tensor) -> Tensor:
    # A tensor that was created in inference mode has no version.
    versions.append(0 if tensor.is_inference() else tensor._version)
    return tensor


def protect_inputs(function: Callable[..., Any]) -> nn.Module | CopiesInputs:
    """Makes a loss function work on copies of its argument tensors.

    Returns the same object for a module, and a wrapper for any other function. Torch's own losses get no copies,
    because they don't change their inputs.
    """
    if isinstance(function, nn.Module):
        if type(function).__module__ != nn.modules.loss.__name__:
            copy_inputs(function)
        return function
    return CopiesInputs(function)


class CopiesInputs:
    """Calls a function with copies of its argument tensors. All other attributes are looked up in the function.

    Attributes:
        on_return: called with each result of the function; None for no call.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.on_return: Callable[[Any], None] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        output = self.function(*copy_tensors(args), **copy_tensors(kwargs))
        if self.on_return:
            self.on_return(output)
        return output

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of the function."""
        return getattr(object.__getattribute__(self, "function"), name)


def copy_tensors(value: Any) -> Any:
    """Copies every tensor that `map_tensors` finds in a value. Gradients flow through the copies."""
    return map_tensors(value, Tensor.clone)


def _pass_copies(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    # Most networks are called with positional tensors, so this case is fast.
    copies = tuple([value.clone() if type(value) is Tensor else copy_tensors(value) for value in args])
    return copies, copy_tensors(kwargs) if kwargs else kwargs
