"""Checks models and losses."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.gradcheck import GradcheckError

from audiozen_core.checkpoint.store import CheckpointStore


def check_model(build: Callable[[], nn.Module], *inputs: Tensor) -> None:
    """Checks that all weights get gradients, and that a restored model gives the same finite output, bit for bit.

    Args:
        build: a function that builds the model, such as `lambda: Net(bands=4)`.
        inputs: the arguments of its `forward`.

    Raises:
        AssertionError: the model fails one of these checks; the message says which.
    """
    torch.manual_seed(0)
    model = build()
    # Run in training mode first, so that buffers such as running means differ from the buffers of a new model.
    output = _first(model.train()(*inputs))
    assert torch.isfinite(output).all(), "the output of the model is not finite in training mode"
    torch.autograd.backward(output.abs().square().mean())
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            assert weight.grad is not None, f"the weight `{name}` gets no gradient"
            assert torch.isfinite(weight.grad).all(), f"the gradient of the weight `{name}` is not finite"
    # Move the weights away from their initial values. Otherwise a model whose weights are missing from its state could
    # pass, because `build` may give the same initial values again.
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.01 * torch.randn_like(weight))
    restored = build()
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder))
        store.save({"model": model.state_dict()}, epoch=1, step=1)
        restored.load_state_dict(store.load("latest").state["model"])
    with torch.no_grad():
        torch.manual_seed(1)
        before = _first(model.eval()(*copy.deepcopy(inputs)))
        torch.manual_seed(1)
        after = _first(restored.eval()(*copy.deepcopy(inputs)))
    # This check comes before the comparison, because NaN differs from itself.
    assert torch.isfinite(before).all(), "the output of the model is not finite in evaluation mode"
    assert torch.equal(before, after), "the output of the model differs after it was restored from a checkpoint"


def check_loss(
    loss: Callable[..., Tensor],
    *shape: int,
    targets: int = 1,
    gradcheck: bool = True,
    draw: Callable[..., Tensor] = torch.randn,
) -> None:
    """Checks that a loss is a finite scalar with finite, correct gradients, for silence too.

    Args:
        loss: called with an estimate and a target of `shape`.
        shape: such as `2, 800` for waveforms [batch, time].
        targets: the number of arguments after the estimate.
        gradcheck: whether to compare the gradient with finite differences, in float64.
        draw: returns random input of a shape, such as `torch.rand` for magnitudes.

    Raises:
        AssertionError: the loss fails one of these checks; the message says which.
    """
    torch.manual_seed(0)
    for name, scale in (("random input", 1.0), ("silence", 0.0)):
        estimate = (scale * draw(*shape)).requires_grad_()
        value = loss(estimate, *(scale * draw(*shape) for _ in range(targets)))
        assert value.dim() == 0, f"the loss has the shape {list(value.shape)}; it must be a scalar"
        assert torch.isfinite(value), f"the loss is {value.item()} for {name}"
        torch.autograd.backward(value)
        assert estimate.grad is not None, "the loss passes no gradient to the estimate"
        assert torch.isfinite(estimate.grad).all(), f"the gradient of the loss is not finite for {name}"
        assert scale == 0 or estimate.grad.any(), "the gradient of the loss is zero for random input"
    if gradcheck:
        others = [draw(*shape, dtype=torch.float64) for _ in range(targets)]
        estimate = draw(*shape, dtype=torch.float64).requires_grad_()
        in_float64 = copy.deepcopy(loss).double() if isinstance(loss, nn.Module) else loss
        try:
            torch.autograd.gradcheck(lambda wave: in_float64(wave, *others), (estimate,), fast_mode=True)
        except GradcheckError as error:
            raise AssertionError(f"the gradient of the loss differs from finite differences: {error}") from error


def _first(output: Any) -> Tensor:
    """Returns the tensor that a model returns, or the first tensor if it returns several."""
    while isinstance(output, tuple | list | dict):
        output = next(iter(output.values())) if isinstance(output, dict) else output[0]
    assert isinstance(output, Tensor), f"the model returns a {type(output).__name__}, not a tensor"
    return output
