"""Computes the cost of the soft alignment of two sequences from the distances between their frames.

The cost of a cell is `cost[i, j] = distance[i, j] + softmin(cost[i-1, j-1], cost[i-1, j], cost[i, j-1])`. The cells of
an anti-diagonal do not depend on each other, so one operation computes a whole anti-diagonal. For this, tensors are
*skewed*: the cell (i, j) is stored at [i + j, i, batch]. An anti-diagonal is then one row of memory, and the three
predecessors of its cells are slices of the two previous rows.

Costs are stored as *potentials*, `-cost / gamma`, because softmin is then `logaddexp`. Distances are stored in the same
way, as *scores*. Both are always float64. A cost of 1e6 is common, and float32 resolves 1e6 only to 0.06, which may be
more than gamma.

The gradient of the cost is the alignment, the probability that the soft path visits a cell (Cuturi & Blondel,
"Soft-DTW: a Differentiable Loss Function for Time-Series", ICML 2017). The gradient of the alignment is a product with
the Hessian, which takes one more sweep in each direction (Mensch & Blondel, "Differentiable Dynamic Programming for
Structured Prediction and Attention", ICML 2018).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

FAR = -1e300  # the potential of a cell that no path reaches; finite, because the difference of two infinities is NaN
BLOCK = 32  # the number of anti-diagonals in a block; one operation slices a block, and another computes its weights


def soft_alignment_cost(distance: Tensor, gamma: float) -> Tensor:
    """Computes the cost of the soft alignment.

    The cost can be differentiated twice with respect to `distance`. A third derivative raises an error.

    Args:
        distance: the distances [batch, frames, frames2], float64; infinity for a cell that no path may visit.
        gamma: the softness of the minimum; above 0.

    Returns:
        The costs [batch], float64.
    """
    if distance.shape[1] > distance.shape[2]:  # the transposed matrix has the same cost, and shorter rows in memory
        distance = distance.transpose(1, 2)
    cost: Tensor = _Cost.apply(distance, gamma)  # type: ignore[no-untyped-call]
    return cost


class _Cost(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, distance: Tensor, gamma: float) -> Tensor:
        scores = _skewed((distance / -gamma).clamp_(min=FAR), FAR)
        potentials = _sweep_potentials(scores, distance.shape[2])
        ctx.save_for_backward(distance, potentials, scores)
        ctx.gamma = gamma
        return potentials[-1, -1] * -gamma

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        alignment: Tensor = _Alignment.apply(*ctx.saved_tensors, ctx.gamma)  # type: ignore[no-untyped-call]
        return alignment * grads[0][:, None, None], None


class _Alignment(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, distance: Tensor, potentials: Tensor, scores: Tensor, gamma: float) -> Tensor:
        width = distance.shape[2]
        alignment = _sweep_alignment(potentials, scores, width)
        ctx.save_for_backward(potentials, scores, alignment)
        ctx.gamma, ctx.width = gamma, width
        return _unskewed(alignment, width)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        potentials, scores, alignment = ctx.saved_tensors
        direction = _skewed(grads[0], 0).div_(-ctx.gamma)
        product = _sweep_hessian(potentials, scores, alignment, direction, ctx.width)
        return _unskewed(product, ctx.width).contiguous(), None, None, None


def _skewed(cells: Tensor, outside: float) -> Tensor:
    """Skews [batch, height, width] to [height + width - 1, height, batch], and fills the gaps with `outside`."""
    batch, height, width = cells.shape
    rows = cells.new_full((height + width - 1, height, batch), outside)
    rows.as_strided((batch, height, width), (1, height * batch + batch, height * batch)).copy_(cells)
    return rows


def _unskewed(potentials: Tensor, width: int) -> Tensor:
    """Returns a view [batch, height, width] of a tensor in the skewed layout of the potentials."""
    row, height, batch = potentials.stride(0), potentials.shape[1] - 1, potentials.shape[2]
    return potentials.as_strided((batch, height, width), (1, row + batch, row), 2 * row + batch)


def _bordered(rows: Tensor, value: float) -> Tensor:
    """Allocates potentials with a border that no path reaches: two anti-diagonals in front, and one row above."""
    diagonals, height, batch = rows.shape
    return rows.new_full((diagonals + 2, height + 1, batch), value)


def _blocks(diagonals: int, height: int, width: int) -> Iterator[tuple[int, int, int, int]]:
    """Yields blocks of anti-diagonals as (start, stop, low, high); the rows from `low` to `high` contain all cells."""
    for start in range(0, diagonals, BLOCK):
        stop = min(start + BLOCK, diagonals)
        yield start, stop, max(0, start - width + 1), min(height, stop)


def _neighbours(rows: Tensor, start: int, stop: int, low: int, high: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns slices of a tensor with the layout of the potentials: the cells of a block and their 3 predecessors."""
    here = rows[start + 2 : stop + 2, low + 1 : high + 1]
    above = rows[start + 1 : stop + 1, low:high]
    left = rows[start + 1 : stop + 1, low + 1 : high + 1]
    before = rows[start:stop, low:high]
    return here, above, left, before


def _sweep_potentials(scores: Tensor, width: int) -> Tensor:
    potentials = _bordered(scores, FAR)
    potentials[0, 0] = 0  # all paths start from this cell
    diagonals, height, _ = scores.shape
    for block in _blocks(diagonals, height, width):
        start, stop, low, high = block
        rows = (*_neighbours(potentials, *block), scores[start:stop, low:high])
        for here, above, left, before, score in zip(*(row.unbind(0) for row in rows), strict=True):
            torch.logaddexp(above, left, out=here)
            torch.logaddexp(here, before, out=here).add_(score)
    return potentials


def _weights(potentials: Tensor, scores: Tensor, block: tuple[int, int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Computes, for each cell of a block, the probabilities that a path comes from each of its three predecessors."""
    start, stop, low, high = block
    here, *sources = _neighbours(potentials, *block)
    score = scores[start:stop, low:high]
    total = here - score
    weights = total.new_empty(3, *total.shape)
    for weight, source in zip(weights, sources, strict=True):
        torch.sub(source, total, out=weight)
    # Tiny weights would lead to denormal numbers, which slow down the CPU. Raising them to e^-100 is accurate enough.
    weights.clamp_(-100, 0).exp_()
    above, left, before = weights
    return above, left, before


def _sweep_alignment(potentials: Tensor, scores: Tensor, width: int) -> Tensor:
    alignment = _bordered(scores, 0)
    alignment[-1, -1] = 1  # all paths end in the last cell
    diagonals, height, _ = scores.shape
    for block in reversed(list(_blocks(diagonals, height, width))):
        rows = (*_neighbours(alignment, *block), *_weights(potentials, scores, block))
        for here, above, left, before, *weight in reversed(list(zip(*(row.unbind(0) for row in rows), strict=True))):
            above.addcmul_(here, weight[0])
            left.addcmul_(here, weight[1])
            before.addcmul_(here, weight[2])
    return alignment


def _sweep_hessian(potentials: Tensor, scores: Tensor, alignment: Tensor, direction: Tensor, width: int) -> Tensor:
    """Returns the derivative of the alignment if the scores change along `direction`.

    The result has the layout of the potentials.
    """
    diagonals, height, _ = scores.shape
    blocks = list(_blocks(diagonals, height, width))
    moved = _bordered(scores, 0)  # the change of the potentials
    for block in blocks:
        start, stop, low, high = block
        inside = scores[start:stop, low:high] != FAR  # in cells that no path reaches, the change could overflow
        reached = [weight * inside for weight in _weights(potentials, scores, block)]
        rows = (*_neighbours(moved, *block), *reached, direction[start:stop, low:high])
        for here, above, left, before, *weight, step in zip(*(row.unbind(0) for row in rows), strict=True):
            torch.addcmul(step, above, weight[0], out=here)
            here.addcmul_(left, weight[1]).addcmul_(before, weight[2])
    product = _bordered(scores, 0)
    for block in reversed(blocks):
        start, stop, low, high = block
        here, *sources = _neighbours(moved, *block)
        total = here - direction[start:stop, low:high]
        visits = alignment[start + 2 : stop + 2, low + 1 : high + 1]
        weights = _weights(potentials, scores, block)
        changes = [weight * (source - total) * visits for weight, source in zip(weights, sources, strict=True)]
        rows = (*_neighbours(product, *block), *weights, *changes)
        for here, *row in reversed(list(zip(*(row.unbind(0) for row in rows), strict=True))):
            for source, weight, change in zip(row[:3], row[3:6], row[6:], strict=True):
                source.addcmul_(here, weight).add_(change)
    return product
