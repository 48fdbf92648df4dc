"""Finds tensors that networks change during a training, but that no checkpoint has."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audiozen_core.diagnostics.listed import listed
from audiozen_core.logging import get_logger


class UnsavedTensors:
    """The tensors and arrays that modules hold as plain attributes, as they are when a training begins.

    `nn.Module` saves parameters and buffers only. A running mean in a plain attribute, or in a list or a dict of one,
    would start anew in a resume. What is not there yet, such as an attribute that is None or a list that grows, is left
    out: it is mostly a cache, or what a hook may look at. Numbers are left out, too.

    The values are compared, by checksums. A version counter of torch would not count changes through `data`.

    Args:
        modules: the modules, by section.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules
        self._before = {name: _checksum(value) for name, value in _plain_tensors(modules)}

    def warn(self) -> None:
        """Warns, once, of the tensors that have changed since. It reads them, so a GPU has to wait."""
        if not self._before:
            return
        changed = [
            name
            for name, value in _plain_tensors(self._modules)
            if name in self._before and self._before[name] != _checksum(value)
        ]
        if changed:
            self._before = {}
            get_logger().warning(
                "the training changes tensors that are in no checkpoint, so a resumed or tested network would have "
                "others: they are neither parameters nor buffers",
                tensors=listed(changed),
                remedy="use `self.register_buffer(name, tensor)` in `__init__`, with `persistent=False` if it is only "
                "a cache",
            )


def _plain_tensors(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor | np.ndarray[Any, Any]]]:
    saved = {id(tensor) for module in modules.values() for of in (module.parameters, module.buffers) for tensor in of()}
    for section, module in modules.items():
        for path, part in module.named_modules():
            own = type(part)
            if own.get_extra_state is not nn.Module.get_extra_state or own.state_dict is not nn.Module.state_dict:
                continue  # saves what it likes
            for name, held in vars(part).items():
                # Weight and spectral norm, pruning and the like compute `weight` anew from `weight_g` in each pass.
                if name in _OF_MODULE or any(other.startswith(f"{name}_") for other in part._parameters):
                    continue
                for place, value in _within(held, f"{path}.{name}".lstrip(".")):
                    # A layer may list its own weights, as those of torch with a state do.
                    trained = isinstance(value, Tensor) and (value.requires_grad or id(value) in saved)
                    if not trained:
                        yield f"`{place}` of [{section}]", value


# Parameters, buffers, modules and hooks of a module. `named_modules` finds the modules.
_OF_MODULE = frozenset(vars(nn.Module()))


def _within(value: Any, place: str, depth: int = 4) -> Iterator[tuple[str, Tensor | np.ndarray[Any, Any]]]:
    """Yields each tensor and array in a value: itself, or the entries of lists, tuples and dicts."""
    if isinstance(value, Tensor | np.ndarray):
        yield place, value
    elif depth and isinstance(value, list | tuple | dict):  # such a list may contain itself
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _within(entry, f"{place}[{key!r}]", depth - 1)


def _checksum(value: Tensor | np.ndarray[Any, Any]) -> object:
    """Returns a number that changes with the values, or the object itself if they can't be read."""
    if isinstance(value, Tensor):
        try:
            flat = value.detach().resolve_conj().resolve_neg().reshape(-1).cpu()
            return value.shape, zlib.crc32(flat.view(torch.uint8).numpy().data)
        except (RuntimeError, TypeError, NotImplementedError):  # sparse, or of another kind without plain bytes
            return id(value)
    return id(value) if value.dtype.hasobject else (value.shape, zlib.crc32(value.tobytes()))
