"""Hands copies of their inputs to networks and losses, so that these can't change what is used afterwards."""

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
    """Makes a module work on copies of the tensors among its inputs, whenever it is called.

    Many networks change their input in place (`noisy /= scale`). Without a copy this would also change the batch, the
    noisy signal that is scored, and a tensor that the data set keeps. A copy costs far less than a forward pass.
    """
    if _pass_copies in module._forward_pre_hooks.values():
        return
    # A ScriptModule refuses its own `register_forward_pre_hook`, although its call runs such hooks.
    nn.Module.register_forward_pre_hook(module, _pass_copies, with_kwargs=True)


def report_changed_inputs(module: nn.Module, name: str) -> None:
    """Warns once if a module changes one of its arguments in place, except for the first one.

    Such an argument may be a state, of a streaming network for instance, that the caller expects to be updated. But the
    module works on copies, so the caller's state does not change. A module that was compiled in place is not watched.

    Args:
        module: the module; `copy_inputs` has been called for it.
        name: the module in the warning.
    """
    watched = any(isinstance(hook, _Watch) for hook in module._forward_hooks.values())
    if not watched and _takes_further_inputs(module):
        nn.Module.register_forward_hook(module, _Watch(name), with_kwargs=True)


def _takes_further_inputs(module: nn.Module) -> bool:
    """Whether a module can be called with more than one argument. It is so if nothing is known about it."""
    try:
        parameters = inspect.signature(unwrapped(module).forward).parameters.values()
    except (TypeError, ValueError):  # a compiled function has no signature
        return True
    return len(parameters) != 1 or any(one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) for one in parameters)


class _Watch:
    def __init__(self, name: str) -> None:
        self.name = name
        self.is_done = False

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        # In a compiled graph, reading the version would become an operation of the graph.
        if self.is_done or not (args[1:] or kwargs) or torch.compiler.is_compiling():
            return
        for argument in _changed(module, args, kwargs):
            self.is_done = True
            get_logger().warning(
                f"{self.name} changes its argument `{argument}` in place, but works on copies of its inputs, so the "
                "tensors of its caller do not change",
                remedy="if it is a state that the next call needs, return the new state from `forward`",
            )


def _changed(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """Returns the names of the arguments, except the first one, that have a tensor whose contents have changed."""
    positions = [position for position, value in enumerate(args) if position and _has_changed(value)]
    named = [name for name, value in kwargs.items() if _has_changed(value)]
    if not positions and not named:
        return []
    try:
        parameters = list(inspect.signature(unwrapped(module).forward).parameters.values())
    except (TypeError, ValueError):  # a compiled function has no signature
        parameters = []
    names = [one.name for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    changed = [names[position] if position < len(names) else f"number {position + 1}" for position in positions]
    return changed + [name for name in named if args or name not in names[:1]]


def _has_changed(value: Any) -> bool:
    found: list[int] = []
    map_tensors(value, functools.partial(_note_version, found))
    return any(found)  # a copy begins with version 0


def _note_version(found: list[int], tensor: Tensor) -> Tensor:
    # A tensor that was made in inference mode does not count versions.
    found.append(0 if tensor.is_inference() else tensor._version)
    return tensor


def protected(function: Callable[..., Any]) -> nn.Module | CopiesInputs:
    """Makes a function work on copies of the tensors among its arguments. A module is changed and returned itself.

    The losses of torch itself change nothing, and work without copies.
    """
    if isinstance(function, nn.Module):
        if type(function).__module__ != nn.modules.loss.__name__:
            copy_inputs(function)
        return function
    return CopiesInputs(function)


class CopiesInputs:
    """Calls a function with copies of the tensors among its arguments. Its attributes are those of the function.

    Attributes:
        on_return: called with everything that the function returns, if it is set.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.on_return: Callable[[Any], None] | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function."""
        output = self.function(*copied(args), **copied(kwargs))
        if self.on_return:
            self.on_return(output)
        return output

    def __getattr__(self, name: str) -> Any:
        """Returns an attribute of the function."""
        return getattr(object.__getattribute__(self, "function"), name)


def copied(value: Any) -> Any:
    """Copies every tensor, as `map_tensors` finds them. Gradients flow through the copies."""
    return map_tensors(value, Tensor.clone)


def _pass_copies(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
    # Most networks are given tensors, without names.
    copies = tuple([value.clone() if type(value) is Tensor else copied(value) for value in args])
    return copies, copied(kwargs) if kwargs else kwargs
