"""The frames of two sequences, prepared so that one matrix product gives the scores of Soft-DTW."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiozen_plugins.kernels.on_cpu import cpu_kernel

_DTYPES = (torch.float32, torch.float64)


class Frames:
    """The prepared frames of one item of a batch, in float64.

    Two more columns have the squared norms and their factor, so that the product of a row of `x` and a row of `y` is a
    complete score. Both tensors may have further rows of zeros at their ends. All items share the memory.

    Args:
        x: features [batch, frames, features].
        y: features [batch, frames2, features].
        gamma: the softness of the minimum; above 0.
        before: the rows of zeros before the frames of `y`.
        padded: the total number of rows of `x` and of `y`; by default only their frames.

    Attributes:
        x: the prepared frames of `x` [rows, features + 2].
        y: the prepared frames of `y` [rows, features + 2].
    """

    def __init__(
        self, x: Tensor, y: Tensor, gamma: float, *, before: int = 0, padded: tuple[int, int] | None = None
    ) -> None:
        self._scale = -1 / (gamma * math.log(2))
        sides = (side if side.dtype in _DTYPES else side.double() for side in (x, y))
        self._items, self._items2 = (side.detach().contiguous().numpy() for side in sides)
        (frames, features), frames2 = x.shape[1:], y.shape[1]
        rows, rows2 = padded or (frames, frames2)
        self.x = torch.empty(rows, features + 2, dtype=torch.float64)
        self.y = torch.empty(rows2, features + 2, dtype=torch.float64)
        for padding in (self.x[frames:], self.y[:before], self.y[before + frames2 :]):
            padding.zero_()
        self._x, self._y = self.x[:frames].numpy(), self.y[before : before + frames2].numpy()
        self._centre = np.empty(features)

    def load(self, index: int) -> None:
        """Prepares the frames of an item of the batch."""
        _prepare(self._items[index], self._items2[index], self._scale, self._centre, self._x, self._y)

    def write_gradient_of_x(self, weighted: Tensor, grad: Tensor) -> None:
        """Writes the gradient with respect to `x`.

        Args:
            weighted: the matrix of visits times the prepared frames of `y` [frames, features + 2].
            grad: receives the gradient [frames, features].
        """
        last = weighted.shape[1] - 1
        _combine(self._x, weighted.numpy(), last, -1 / self._scale, -2.0, grad)

    def write_gradient_of_y(self, weighted: Tensor, grad: Tensor) -> None:
        """Writes the gradient with respect to `y`.

        Args:
            weighted: the transposed matrix of visits times the prepared frames of `x` [frames2, features + 2].
            grad: receives the gradient [frames2, features].
        """
        last = weighted.shape[1] - 1
        _combine(self._y, weighted.numpy(), last - 1, 2 / self._scale, 1 / self._scale, grad)


def _combine(frames: Any, weighted: Any, column: int, factor: float, factor2: float, grad: Tensor) -> None:
    target = grad if grad.dtype in _DTYPES and grad.is_contiguous() else torch.empty(grad.shape, dtype=torch.float64)
    _add_weighted(frames, weighted, column, factor, factor2, target.numpy())
    if target is not grad:
        grad.copy_(target)


@cpu_kernel(error_model="numpy", fastmath=True)
def _prepare(x: Any, y: Any, scale: float, centre: Any, prepared: Any, prepared2: Any) -> None:
    """Centres and scales frames, and writes them with two more columns: the weighted squared norms, and the weight.

    The centre is the mean of `y`. Without it, a large common offset would make the squares less precise.
    """
    features = x.shape[1]
    centre[:] = 0.0
    for frame in range(y.shape[0]):
        for feature in range(features):
            centre[feature] += y[frame, feature]
    for feature in range(features):
        centre[feature] /= y.shape[0]
    for frame in range(x.shape[0]):
        square = 0.0
        for feature in range(features):
            value = x[frame, feature] - centre[feature]
            prepared[frame, feature] = value * (-2 * scale)
            square += value * value
        prepared[frame, features], prepared[frame, features + 1] = scale, square * scale
    for frame in range(y.shape[0]):
        square = 0.0
        for feature in range(features):
            value = y[frame, feature] - centre[feature]
            prepared2[frame, feature] = value
            square += value * value
        prepared2[frame, features], prepared2[frame, features + 1] = square, 1.0


@cpu_kernel(error_model="numpy", fastmath=True)
def _add_weighted(frames: Any, weighted: Any, column: int, factor: float, factor2: float, grad: Any) -> None:
    """Writes the prepared frames times a column of `weighted`, plus `weighted`, each times its factor, to `grad`."""
    for frame in range(grad.shape[0]):
        weight = weighted[frame, column] * factor
        for feature in range(grad.shape[1]):
            grad[frame, feature] = frames[frame, feature] * weight + weighted[frame, feature] * factor2
