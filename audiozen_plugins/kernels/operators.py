"""Registers kernels as operators of PyTorch, so that autograd and `torch.compile` can handle them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

# `torch.library.custom_op` would be shorter, but its first call imports the compiler. That is slow.
_library = torch.library.Library("audiozen", "FRAGMENT")  # type: ignore[no-untyped-call]


def operator(schema: str, *, shapes: Callable[..., Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Registers a function as the operator `audiozen::…`.

    Args:
        schema: the name and the types of the operator, such as `"double(Tensor x) -> Tensor"`.
        shapes: takes the arguments of the function, and returns empty tensors with the shapes of its results.
            `torch.compile` calls it.

    Returns:
        A decorator that returns the operator. The operator is called like the function. Give it a gradient with
        `differentiable`.
    """
    name = schema.partition("(")[0]

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        _library.define(schema)  # type: ignore[no-untyped-call]
        _library.impl(name, function, "CompositeExplicitAutograd")  # type: ignore[no-untyped-call]
        torch.library.register_fake(f"audiozen::{name}", shapes, lib=_library)
        registered: Callable[..., Any] = getattr(torch.ops.audiozen, name)
        return registered

    return register


def differentiable(name: str, *, keep: Callable[..., None], backward: Callable[..., Any]) -> None:
    """Gives an operator a gradient.

    Args:
        name: the name of the operator, without its namespace.
        keep: is called as `keep(ctx, inputs, output)` and saves in `ctx` what the backward pass needs.
        backward: is called as `backward(ctx, *grads)` and returns the gradient of each argument.
    """
    torch.library.register_autograd(f"audiozen::{name}", backward, setup_context=keep, lib=_library)
