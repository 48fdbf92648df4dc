"""Triton kernels of soft-DTW, for a GPU: the forward and the backward pass over the whole matrix of distances.

Importing this module requires Triton. The module `soft_alignment_sweeps` has the same two functions for the CPU, and
explains the algorithm. It also defines the terms that are used here: the score, the unnormalised probability `p`
(stored as a mantissa and an exponent in float64), and the visits of a cell.

Each program computes one item of the batch, one anti-diagonal of its matrix after the other. It computes an
anti-diagonal in blocks of cells, so an anti-diagonal may have any number of cells.

If there is a band, only its cells are stored: the cell (i, j) of the matrix is in column j - base[i] of row i in
memory.
"""

# Triton compiles these functions, and its types are not Python's.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: ANN001, ANN201, ANN202, N803

from __future__ import annotations

import math

import triton
import triton.language as tl

FAR = tl.constexpr(-1e300)
SHIFT = tl.constexpr(2.0**52 + 1023.0)
SHIFT_BITS = tl.constexpr(0x4330_0000_0000_0000)
MANTISSA = tl.constexpr(0x000F_FFFF_FFFF_FFFF)
ONE = tl.constexpr(0x3FF0_0000_0000_0000)
C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12 = (
    tl.constexpr(math.log(2) ** n / math.factorial(n)) for n in range(1, 13)
)


@triton.jit
def _power_of(whole):
    """Returns 2^whole as float64. `whole` is an integer of at most 0; below -1022, the result is 0."""
    bits = (tl.maximum(whole, -1023.0) + SHIFT).to(tl.int64, bitcast=True)
    return (bits << 52).to(tl.float64, bitcast=True)


@triton.jit
def sweep_probabilities(
    scores, weights, base, limits, mantissas, exponents, result, rows, width, diagonals, BLOCK: tl.constexpr
):
    """Computes `p` for all cells of each item, from the first anti-diagonal to the last.

    Args:
        scores: the scores of the cells [batch, rows, width].
        weights: receives, for each cell, the probability that a path comes to the cell from above, and the probability
            that it comes from the left [batch, 2, rows, width].
        base: the column of the matrix that is the first one in memory, for each row [rows].
        limits: the first and the last row of each anti-diagonal [diagonals, 2].
        mantissas: working memory [batch, 3, rows].
        exponents: working memory [batch, 3, rows].
        result: receives the mantissa and the exponent of `p` for the last cell of each item [batch, 2].
        rows: the number of rows of the matrix.
        width: the number of columns in memory.
        diagonals: the number of anti-diagonals.
        BLOCK: the number of cells that are computed at once.
    """
    item = tl.program_id(0).to(tl.int64)
    scores += item * rows * width
    weights += item * 2 * rows * width
    mantissas += item * 3 * rows
    exponents += item * 3 * rows
    first1, last1, first2, last2 = 0, -1, 0, -1
    for t in range(diagonals):
        first = tl.load(limits + 2 * t)
        last = tl.load(limits + 2 * t + 1)
        here, behind, before = (t % 3) * rows, ((t + 2) % 3) * rows, ((t + 1) % 3) * rows
        for start in range(first, last + 1, BLOCK):
            row = start + tl.arange(0, BLOCK)
            valid = row <= last
            is_above = valid & (row - 1 >= first1) & (row - 1 <= last1)
            is_left = valid & (row >= first1) & (row <= last1)
            is_before = valid & (row - 1 >= first2) & (row - 1 <= last2)
            e_above = tl.load(exponents + behind + row - 1, mask=is_above, other=FAR)
            e_left = tl.load(exponents + behind + row, mask=is_left, other=FAR)
            e_before = tl.load(exponents + before + row - 1, mask=is_before, other=FAR)
            e_before = tl.where((t == 0) & (row == 0), 0.0, e_before)  # all paths start in the first cell
            m_above = tl.load(mantissas + behind + row - 1, mask=is_above, other=1.0)
            m_left = tl.load(mantissas + behind + row, mask=is_left, other=1.0)
            m_before = tl.load(mantissas + before + row - 1, mask=is_before, other=1.0)
            top = tl.maximum(tl.maximum(e_above, e_left), e_before)
            from_above = m_above * _power_of(e_above - top)
            from_left = m_left * _power_of(e_left - top)
            total = from_above + from_left + m_before * _power_of(e_before - top)
            cell = row.to(tl.int64) * width + t - row - tl.load(base + row, mask=valid, other=0)
            tl.store(weights + cell, from_above / total, mask=valid)
            tl.store(weights + rows * width + cell, from_left / total, mask=valid)
            score = tl.load(scores + cell, mask=valid, other=0.0)
            whole = tl.floor(score + 0.5)
            x = score - whole
            high = (((C12 * x + C11) * x + C10) * x + C9) * x + C8
            power = (((((((high * x + C7) * x + C6) * x + C5) * x + C4) * x + C3) * x + C2) * x + C1) * x + 1.0
            bits = (total * power).to(tl.int64, bitcast=True)
            carry = ((bits >> 52) | SHIFT_BITS).to(tl.float64, bitcast=True) - SHIFT
            tl.store(mantissas + here + row, ((bits & MANTISSA) | ONE).to(tl.float64, bitcast=True), mask=valid)
            tl.store(exponents + here + row, top + whole + carry, mask=valid)
        tl.debug_barrier()  # the next anti-diagonal reads what other threads have written
        first2, last2 = first1, last1
        first1, last1 = first, last
    end = ((diagonals - 1) % 3) * rows + rows - 1
    tl.store(result + 2 * item, tl.load(mantissas + end))
    tl.store(result + 2 * item + 1, tl.load(exponents + end))


@triton.jit
def sweep_visits(visits, weights, base, limits, passed, seeds, rows, width, diagonals, BLOCK: tl.constexpr):
    """Computes the visits of all cells of each item, from the last anti-diagonal to the first.

    Args:
        visits: receives the visits: the gradient with respect to the distance of each cell [batch, rows, width].
        weights: the probabilities that `sweep_probabilities` wrote [batch, 2, rows, width].
        base: as in `sweep_probabilities`.
        limits: as in `sweep_probabilities`.
        passed: working memory [batch, 9, rows].
        seeds: the gradients with respect to the costs [batch]. They are the visits of the last cells.
        rows: as in `sweep_probabilities`.
        width: as in `sweep_probabilities`.
        diagonals: as in `sweep_probabilities`.
        BLOCK: as in `sweep_probabilities`.
    """
    item = tl.program_id(0).to(tl.int64)
    visits += item * rows * width
    weights += item * 2 * rows * width
    up = passed + item * 9 * rows
    left = up + 3 * rows
    before = left + 3 * rows
    seed = tl.load(seeds + item)
    first1, last1, first2, last2 = 0, -1, 0, -1
    for step in range(diagonals):
        t = diagonals - 1 - step
        first = tl.load(limits + 2 * t)
        last = tl.load(limits + 2 * t + 1)
        here, after, second = (step % 3) * rows, ((step + 2) % 3) * rows, ((step + 1) % 3) * rows
        for start in range(first, last + 1, BLOCK):
            row = start + tl.arange(0, BLOCK)
            valid = row <= last
            is_below = valid & (row + 1 >= first1) & (row + 1 <= last1)
            is_right = valid & (row >= first1) & (row <= last1)
            is_second = valid & (row + 1 >= first2) & (row + 1 <= last2)
            visit = tl.load(up + after + row + 1, mask=is_below, other=0.0)
            visit += tl.load(left + after + row, mask=is_right, other=0.0)
            visit += tl.load(before + second + row + 1, mask=is_second, other=0.0)
            visit = tl.where(step == 0, seed, visit)  # all paths end in the last cell
            cell = row.to(tl.int64) * width + t - row - tl.load(base + row, mask=valid, other=0)
            upwards = visit * tl.load(weights + cell, mask=valid, other=0.0)
            leftwards = visit * tl.load(weights + rows * width + cell, mask=valid, other=0.0)
            tl.store(visits + cell, visit, mask=valid)
            tl.store(up + here + row, upwards, mask=valid)
            tl.store(left + here + row, leftwards, mask=valid)
            tl.store(before + here + row, visit - upwards - leftwards, mask=valid)
        tl.debug_barrier()  # the next anti-diagonal reads what other threads have written
        first2, last2 = first1, last1
        first1, last1 = first, last
