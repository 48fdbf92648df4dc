"""Finds tensors that networks change during a training, but that no checkpoint has."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from audiozen_core.diagnostics.listed import listed
from audiozen_core.logging import get_logger


class UnsavedTensors:
    """The tensors that modules hold as plain attributes, as they are when a training begins.

    `nn.Module` saves parameters and buffers only. A running mean in a plain attribute would start anew in a resume.
    An attribute that is not a tensor yet is left out: it is mostly a cache, or what a hook may look at.

    Args:
        modules: the modules, by section.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self._modules = modules
        self._before = {name: _Seen(tensor) for name, tensor in _plain_tensors(modules)}

    def warn(self) -> None:
        """Warns, once, of the tensors that have been changed or replaced since. Neither copies nor reads them."""
        if not self._before:
            return
        changed = []
        for name, tensor in _plain_tensors(self._modules):
            seen = self._before.get(name)
            if seen and seen.device != tensor.device:
                # Many a constant, such as a window, is moved to the GPU when it is first needed.
                self._before[name] = _Seen(tensor)
            elif seen and (seen.tensor() is not tensor or seen.version != _version(tensor)):
                changed.append(name)
        if changed:
            self._before = {}
            get_logger().warning(
                "the training changes tensors that are in no checkpoint, so a resumed or tested network would have "
                "others: they are neither parameters nor buffers",
                tensors=listed(changed),
                remedy="use `self.register_buffer(name, tensor)` in `__init__`, with `persistent=False` if it is only "
                "a cache",
            )


class _Seen:
    """A tensor as it was when it was last looked at, without keeping it alive."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = weakref.ref(tensor)
        self.version = _version(tensor)
        self.device = tensor.device


def _plain_tensors(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, Tensor]]:
    for section, module in modules.items():
        for path, part in module.named_modules():
            own = type(part)
            if own.get_extra_state is not nn.Module.get_extra_state or own.state_dict is not nn.Module.state_dict:
                continue  # saves what it likes
            for name, value in vars(part).items():
                # Weight and spectral norm, pruning and the like compute `weight` anew from `weight_g` in each pass.
                computed = any(other.startswith(f"{name}_") for other in part._parameters)
                if isinstance(value, Tensor) and not computed and not value.requires_grad:
                    yield f"`{path}.{name}` of [{section}]".replace("`.", "`"), value


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version
