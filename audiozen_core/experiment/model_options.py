"""Applies the options `compile` and `gradient_checkpointing` of a model section.

Both options replace the `forward` method of modules. Wrapping the modules would change the names of the weights.
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
        BuildError: a pattern matches no module, or torch does not accept an argument in `compile`.
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
        # A submodule of a recomputed module is recomputed together with it.
        inside = any(name.startswith(f"{outer}.") for outer in chosen)
        if not inside and any(fnmatchcase(name, pattern) for pattern in patterns):
            chosen.append(name)
            module = model.get_submodule(name)
            module.forward = functools.partial(_checkpointed, module, module.forward)


def _checkpointed(module: nn.Module, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls `forward` without storing activations. The backward pass calls `forward` again to recompute them."""
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    contexts = functools.partial(_contexts, module)
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _contexts(module: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    return nullcontext(), _EarlierBuffers(module)


class _EarlierBuffers(AbstractContextManager[None]):
    """Saves the buffers of a module, and restores the saved buffers while the forward pass is recomputed.

    The forward pass is recomputed within the block of this context. After the block, the module has its current buffers
    again.

    A forward pass may change buffers. Without this context, running statistics would count a batch twice. The vectors
    of spectral normalisation would differ from the vectors in the first forward pass, and the gradients would be wrong.
    If there are several losses, each backward pass enters the context again.
    """

    def __init__(self, module: nn.Module) -> None:
        self._saved = _copies([(part, part._buffers) for part in module.modules() if part._buffers])
        self._current: _Buffers = []

    def __enter__(self) -> None:
        self._current = [(part, dict(part._buffers)) for part, _ in self._saved]
        _set_buffers(_copies(self._saved))

    def __exit__(self, *_: object) -> None:
        _set_buffers(self._current)


_Buffers = list[tuple[nn.Module, Mapping[str, Tensor | None]]]


def _copies(buffers: _Buffers) -> _Buffers:
    return [
        (part, {name: None if buffer is None else buffer.clone() for name, buffer in named.items()})
        for part, named in buffers
    ]


def _set_buffers(buffers: _Buffers) -> None:
    for part, named in buffers:
        part._buffers.update(named)


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
            remedy="use `compile = true`, or a table with arguments of `torch.compile`, such as `mode` and `dynamic`",
        ) from error
