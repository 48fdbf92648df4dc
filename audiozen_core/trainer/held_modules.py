"""Finds modules and parameters that an object holds, but does not register.

`nn.Module` registers only the modules and parameters in its own attributes, and in containers such as `nn.ModuleList`
and `nn.ParameterList`. It can't train, save, move or switch the mode of any other modules and parameters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.data import Dataset

from audiozen_core.data.contents import contents, is_container

_Item = TypeVar("_Item")


def held_modules(part: Any, known: Iterable[Any] = ()) -> dict[str, nn.Module]:
    """Returns the modules that an object holds, but does not register, by name. The object itself is left out.

    The search covers attributes, containers at any depth, the arguments of `functools.partial`, and the closure and
    global variables that a function uses. It continues in the attributes of the objects and data sets that it finds.

    Args:
        part: the object.
        known: objects to leave out. For a module, everything that it registers is left out too.
    """
    return _named((name, item) for name, item in _all_held(part, known) if isinstance(item, nn.Module))


def held_parameters(part: Any, known: Iterable[Any] = ()) -> dict[str, nn.Parameter]:
    """Returns the parameters that an object holds outside of modules, by name. See `held_modules` for the arguments."""
    return _named((name, item) for name, item in _all_held(part, known) if isinstance(item, nn.Parameter))


def _named(pairs: Iterable[tuple[str, _Item]]) -> dict[str, _Item]:
    """Returns the items by name.

    Two items can have the same name, such as the key `a.b` and the key `b` of the dict `a`. A `_` is then appended to
    the second name.
    """
    named: dict[str, _Item] = {}
    for name, item in pairs:
        while name in named:
            name += "_"  # noqa: PLW2901
        named[name] = item
    return named


def unregistered(part: nn.Module) -> str:
    """Returns the name of an object that a module holds and must register; "" if there is none.

    Parameters that require no gradient and modules in evaluation mode never change, so they don't have to be
    registered. In training mode, buffers can change, and dropout would stay active in an evaluation.
    """
    registered = {id(item) for item in (*part.modules(), *part.parameters(), *part.buffers())}
    for name, weight in held_parameters(part).items():
        if weight.requires_grad:
            return name
    for name, module in held_modules(part).items():
        for inner in module.modules():
            if id(inner) in registered:
                continue
            weights = [weight for weight in inner.parameters(recurse=False) if id(weight) not in registered]
            buffers = [buffer for buffer in inner.buffers(recurse=False) if id(buffer) not in registered]
            switched = inner.training and (buffers or isinstance(inner, _DropoutNd | nn.RReLU))
            if switched or any(weight.requires_grad for weight in weights):
                return name
    return ""


def unsaved_statistics(module: nn.Module) -> list[str]:
    """Returns the names of the running means that every call of a module changes."""
    return [
        f"{name}.running_mean".lstrip(".")
        for name, inner in module.named_modules()
        if isinstance(inner, _NormBase) and inner.training and inner.running_mean is not None
    ]


def _all_held(part: Any, known: Iterable[Any]) -> list[tuple[str, Any]]:
    owners = dict(part.named_modules()) if isinstance(part, nn.Module) else {"": part}
    seen: set[int] = set()
    for item in (part, *known):
        _leave_out(item, seen)
    return [
        (f"{prefix}.{name}" if prefix else name, item)
        for prefix, owner in owners.items()
        for name, item in _held(owner, seen, levels=2)
    ]


def _leave_out(item: Any, seen: set[int]) -> None:
    seen.add(id(item))
    if isinstance(item, nn.Module):
        seen.update(map(id, item.modules()))
        seen.update(map(id, item.parameters()))


def _held(owner: Any, seen: set[int], levels: int) -> Iterator[tuple[str, Any]]:
    """Yields the modules and parameters in an object, at most `levels` objects deep, each of them once."""
    for name, value in contents(owner, used_globals=True):
        if id(value) in seen:
            continue
        _leave_out(value, seen)
        if isinstance(value, nn.Module | nn.Parameter):
            yield name, value
        # Data sets can wrap each other to any depth, so they don't count as levels.
        elif is_container(value) or levels > 1 or isinstance(value, Dataset):
            for inner, item in _held(value, seen, levels if is_container(value) else levels - 1):
                yield f"{name}.{inner}", item
