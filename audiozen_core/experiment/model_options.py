"""Lets a network be compiled, and recompute parts of its forward pass, as its section says.

Both replace the `forward` of objects and put no module around them, so the names of the weights stay the same.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from audiozen_core.config.sections import ModelComponent
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import BuildError
from audiozen_core.experiment.parameter_groups import near_pattern
from audiozen_core.trainer.module_state import unwrapped


def apply_options(section: ModelComponent, model: nn.Module) -> None:
    """Applies `gradient_checkpointing` and `compile`.

    Raises:
        BuildError: a pattern matches no module, or torch does not take an argument of `compile`.
    """
    patterns = section.gradient_checkpointing
    _recompute(section, unwrapped(model), [patterns] if isinstance(patterns, str) else patterns)
    if section.compile is not False:
        _compile(section, unwrapped(model), {} if section.compile is True else section.compile)


def _recompute(section: ModelComponent, model: nn.Module, patterns: list[str]) -> None:
    names = [name for name, _ in model.named_modules() if name]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise BuildError(
                f"the pattern `{pattern}` of `gradient_checkpointing` in {section.header} matches no module",
                code=config_codes.BAD_VALUE,
                place=("gradient_checkpointing",),
                remedy=near_pattern(pattern, names),
            )
    chosen: list[str] = []
    for name in names:
        # A part of a module that is recomputed is recomputed with it.
        inside = any(name.startswith(f"{outer}.") for outer in chosen)
        if not inside and any(fnmatchcase(name, pattern) for pattern in patterns):
            chosen.append(name)
            module = model.get_submodule(name)
            module.forward = functools.partial(_checkpointed, module, module.forward)


def _checkpointed(module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls `forward`, which the backward pass calls again instead of keeping what it has computed in between."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    contexts = functools.partial(_contexts, module)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _EarlierBuffers(module)


class _EarlierBuffers(AbstractContextManager[None]):
    """Gives a module the buffers that it has now, and later, at the end of the block, its own again.

    A forward pass may change its buffers. When it is computed again, running statistics would count a batch twice, and
    the vectors of spectral normalisation would be other ones, so the gradients would be those of other weights. A
    backward pass of each of several losses uses the block again.
    """

    def __init__(self, module: nn.Module) -> None:
        self._before = _copies([(part, part._buffers) for part in module.modules() if part._buffers])
        self._own: _Buffers = []

    def __enter__(self) -> None:
        self._own = [(part, dict(part._buffers)) for part, _ in self._before]
        _put(_copies(self._before))

    def __exit__(self, *_: object) -> None:
        _put(self._own)


_Buffers = list[tuple[nn.Module, Mapping[str, Tensor | None]]]


def _copies(buffers: _Buffers) -> _Buffers:
    return [
        (part, {name: None if buffer is None else buffer.clone() for name, buffer in own.items()})
        for part, own in buffers
    ]


def _put(buffers: _Buffers) -> None:
    for part, own in buffers:
        part._buffers.update(own)


def _compile(section: ModelComponent, model: nn.Module, options: dict[str, Any]) -> None:
    backend = options.get("backend", "inductor")
    backends = torch.compiler.list_backends(exclude_tags=())
    if isinstance(backend, str) and backend not in backends:
        raise BuildError(
            f"torch can't compile {section.header} with the backend `{backend}`",
            code=config_codes.BAD_VALUE,
            place=("compile",),
            remedy=did_you_mean(nearest(backend, backends)) or f"one of: {', '.join(backends)}",
        )
    try:
        model.forward = torch.compile(model.forward, **options)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BuildError(
            f"torch can't compile {section.header}: {error}",
            code=config_codes.BAD_VALUE,
            place=("compile",),
            remedy="`compile = true`, or a table with arguments of `torch.compile`, such as `mode` and `dynamic`",
        ) from error
