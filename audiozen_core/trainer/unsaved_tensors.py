"""Finds tensors that training changes, but that checkpoints do not contain."""

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
    """Stores checksums of the tensors and arrays in plain attributes of modules, and warns if the values change.

    `nn.Module` saves only parameters and buffers. A running mean in a plain attribute, or in a list or a dict, would be
    reset by a resume.

    Tensors that are created later, such as those in a growing list, are not watched, because most of them are caches or
    values for hooks. Numbers are not watched either.

    Checksums of the values are used, because torch's version counters would miss changes through `tensor.data`.

    Args:
        modules: the modules, by section.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules
        self._before = {name: _checksum(value) for name, value in _plain_tensors(modules)}

    def warn(self) -> None:
        """Warns at most once about tensors that have changed. Waits for the GPU to read the tensors."""
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
                "the training changes tensors that checkpoints don't contain, because they are neither parameters nor "
                "buffers; a resumed or tested network would have different values",
                tensors=listed(changed),
                remedy="use `self.register_buffer(name, tensor)` in `__init__`, with `persistent=False` if it is only "
                "a cache",
            )


def _plain_tensors(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor | np.ndarray[Any, Any]]]:
    saved = {
        id(tensor)
        for module in modules.values()
        for tensors_of in (module.parameters, module.buffers)
        for tensor in tensors_of()
    }
    for section, module in modules.items():
        for path, part in module.named_modules():
            cls = type(part)
            if cls.get_extra_state is not nn.Module.get_extra_state or cls.state_dict is not nn.Module.state_dict:
                continue  # the module defines what it saves, so plain attributes can be in the checkpoint
            for name, held in vars(part).items():
                # Weight norm, spectral norm and pruning compute `weight` in each forward pass from parameters such as
                # `weight_g`, which are saved.
                if name in _OF_MODULE or any(other.startswith(f"{name}_") for other in part._parameters):
                    continue
                for place, value in _within(held, f"{path}.{name}".lstrip(".")):
                    # A layer can also hold its parameters in a list, as torch's recurrent layers do.
                    trained = isinstance(value, Tensor) and (value.requires_grad or id(value) in saved)
                    if not trained:
                        yield f"`{place}` of [{section}]", value


# `nn.Module` itself stores parameters, buffers, modules and hooks in these attributes.
_OF_MODULE = frozenset(vars(nn.Module()))


def _within(value: Any, place: str, depth: int = 4) -> Iterator[tuple[str, Tensor | np.ndarray[Any, Any]]]:
    """Yields each tensor and array in a value: the value itself, or the entries of lists, tuples and dicts."""
    if isinstance(value, Tensor | np.ndarray):
        yield place, value
    elif depth and isinstance(value, list | tuple | dict):  # `depth` is limited, because a list can contain itself
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _within(entry, f"{place}[{key!r}]", depth - 1)


def _checksum(value: Tensor | np.ndarray[Any, Any]) -> object:
    """Returns the shape and a checksum of the values, or the identity of the object if the values can't be read."""
    if isinstance(value, Tensor):
        try:
            flat = value.detach().resolve_conj().resolve_neg().reshape(-1).cpu()
            return value.shape, zlib.crc32(flat.view(torch.uint8).numpy().data)
        except (RuntimeError, TypeError, NotImplementedError):  # a sparse tensor, or another kind without plain bytes
            return id(value)
    return id(value) if value.dtype.hasobject else (value.shape, zlib.crc32(value.tobytes()))
