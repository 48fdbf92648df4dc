"""The two sweeps of soft-DTW over whole matrices, for a GPU. Importing this module needs Triton.

One program computes one item of the batch, one anti-diagonal after the other. It computes the cells of an anti-diagonal
in blocks, so an anti-diagonal may have any number of cells. As in `soft_alignment_sweeps`, numbers are mantissas and
exponents in float64.

The cell (i, j) is in column j - base[i] of its row in memory, so the cells outside a band need no memory. `limits` has
the first and the last row of each anti-diagonal.
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
    """2^whole for whole numbers of 0 or less, as float64; 0 for numbers below -1022."""
    bits = (tl.maximum(whole, -1023.0) + SHIFT).to(tl.int64, bitcast=True)
    return (bits << 52).to(tl.float64, bitcast=True)


@triton.jit
def sweep_probabilities(
    scores, weights, base, limits, mantissas, exponents, result, rows, width, diagonals, BLOCK: tl.constexpr
):
    """Computes the logarithm to base 2 of the probability of the last cell of each item.

    `scores` is [batch, rows, width], `weights` is [batch, 2, rows, width], `mantissas` and `exponents` are working
    memory [batch, 3, rows], and `result` is [batch, 2], a mantissa and an exponent.
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
            e_before = tl.where((t == 0) & (row == 0), 0.0, e_before)  # all paths start here
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
    """Computes how often a path visits each cell.

    `visits` is [batch, rows, width], `weights` is [batch, 2, rows, width], `passed` is working memory
    [batch, 9, rows], and `seeds` [batch] is how often a path visits the last cell.
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
            visit = tl.where(step == 0, seed, visit)  # all paths end here
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
