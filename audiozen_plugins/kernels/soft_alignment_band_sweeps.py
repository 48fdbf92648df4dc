"""Soft-DTW in a narrow band of the matrix of distances, on the CPU.

`soft_alignment_sweeps` explains `p`, visits, and how both are stored. It sweeps over strips of rows, whose corners are
outside the band: in a strip of 48 rows and a band of 103 columns, half of the cells. The sweeps of this module follow
the diagonal of the matrix instead, and waste nothing.

Cell (i, j) lies on the anti-diagonal `t = i + j`, and on the diagonal `d = j - i`. Every second diagonal has a cell on
an anti-diagonal: those with an even distance to the lowest diagonal `low` if `t - low` is even, the others if it is
odd. *Lane* m of an anti-diagonal is the m-th of these cells: `d = low + 2 * m` in even and `d = low + 2 * m + 1` in odd
anti-diagonals. The cell to the left lies on diagonal d - 1 of the anti-diagonal before, and the cell above on diagonal
d + 1, so they have the lanes m - 1 and m in even anti-diagonals, and m and m + 1 in odd ones.

As in `soft_alignment_sweeps`, each record is stored in front of the previous record. A record of an odd anti-diagonal
is one number closer to the previous record than a record of an even one. With this, the distance from a cell to its
neighbours is always the same, and the compiler can vectorise the loop over the lanes.

Scores come from matrix products of blocks of `BLOCK` rows, as an array [blocks, columns, BLOCK]. The columns of a block
begin at the lowest diagonal of its first row.
"""

from __future__ import annotations

import math

import numpy as np

from audiozen_plugins.kernels.on_cpu import cpu_kernel
from audiozen_plugins.kernels.soft_alignment_sweeps import (
    BIAS,
    C1,
    C2,
    C3,
    C4,
    C5,
    C6,
    C7,
    C8,
    C9,
    C10,
    C11,
    C12,
    FAR,
    MANTISSA,
    ONE,
    OPTIONS,
    SHIFT,
    SHIFT_BITS,
    TINY,
    Floats,
)

BLOCK = 16  # the rows of a block of scores
LANES = 160  # the maximum number of lanes
FIELD = LANES + 8  # the length of one field of a record, with space for the neighbours of the outermost lanes
RECORD = 4 * FIELD
MEMORY = 10 * RECORD


@cpu_kernel(**OPTIONS)
def sweep_band(  # noqa: PLR0915 (a call would keep the compiler from vectorising)
    scores: Floats, frames: int, frames2: int, low: int, high: int, weights: Floats, memory: Floats
) -> float:
    """Computes `p` for all cells of the band, from its first anti-diagonal to its last.

    Args:
        scores: the scores [blocks, columns, BLOCK].
        frames: the number of rows of the matrix.
        frames2: the number of columns of the matrix.
        low: the lowest diagonal of the band, at most 0.
        high: the highest diagonal of the band, at least 0.
        weights: receives, for each cell, the probability that a path comes to the cell from above, and the probability
            that it comes from the left [anti-diagonals, 2, lanes]. The number of lanes is a multiple of 8.
        memory: working memory [MEMORY].

    Returns:
        The natural logarithm of `p` for the last cell.
    """
    lanes, columns = weights.shape[2], scores.shape[1]
    # The fields of a record: mantissas, exponents, and the numbers that go to `weights`. The scores of the current
    # anti-diagonal are first in the field of the weights from above.
    mantissa, exponent, from_up, from_side = 1, FIELD + 1, 2 * FIELD + 1, 3 * FIELD + 1
    side, above, before = RECORD - 1, RECORD, 2 * RECORD - 1
    odd = -low % 2
    start = MEMORY - 2 * RECORD - odd  # the record in front of the first anti-diagonal
    memory[:] = 1.0
    memory[start + FIELD : start + 2 * FIELD] = FAR
    memory[MEMORY - RECORD - 1 + FIELD : MEMORY - RECORD - 1 + 2 * FIELD] = FAR
    # All paths start from a cell in front of the first cell, which is two anti-diagonals earlier.
    memory[MEMORY - RECORD - 1 + exponent + (-low - odd) // 2] = 0.0
    flat = scores.reshape(-1)
    for t in range(frames + frames2 - 1):
        odd = (t - low) % 2
        top = (t - low - odd) // 2  # the row of lane 0
        least = max(0, top - frames + 1, top - t)
        most = min((high - low - odd) // 2, top, frames2 - 1 - t + top)
        start -= RECORD - odd
        if start < 1:
            shift = MEMORY - 3 * RECORD - 1 - start
            for record in (start + RECORD - odd, start + 2 * RECORD - 1):
                for i in range(record, record + lanes + 2):
                    memory[i + shift] = memory[i]
                for i in range(record + FIELD, record + FIELD + lanes + 2):
                    memory[i + shift] = memory[i]
            start += shift
        cells = memory[start:]
        line = memory[start + from_up :]
        for lane in range(least):
            line[lane] = FAR
        for lane in range(most + 1, lanes):
            line[lane] = FAR
        lane = least
        while lane <= most:
            block = (top - lane) // BLOCK
            until = min(most, top - block * BLOCK)
            row, column = top - lane - block * BLOCK, t - top + lane - block * BLOCK - low
            place = (block * columns + column) * BLOCK + row
            for each in range(lane, until + 1):
                line[each] = flat[place]
                place += BLOCK - 1
            lane = until + 1
        for i in range(lanes):
            score = cells[i + from_up]
            e_above = cells[i + above + exponent]
            e_left = cells[i + side + exponent]
            e_before = cells[i + before + exponent]
            peak = max(e_above, e_left, e_before)
            d_above = np.float64(max(e_above - peak, -BIAS) + (SHIFT + BIAS))
            d_left = np.float64(max(e_left - peak, -BIAS) + (SHIFT + BIAS))
            d_before = np.float64(max(e_before - peak, -BIAS) + (SHIFT + BIAS))
            from_above = cells[i + above + mantissa] * np.int64(d_above.view(np.int64) << 52).view(np.float64)
            from_left = cells[i + side + mantissa] * np.int64(d_left.view(np.int64) << 52).view(np.float64)
            from_before = cells[i + before + mantissa] * np.int64(d_before.view(np.int64) << 52).view(np.float64)
            total = from_above + from_left + from_before
            part = 1.0 / total
            cells[i + from_up] = from_above * part
            cells[i + from_side] = from_left * part
            whole = np.rint(score)
            x = score - whole
            x2 = x * x
            x4 = x2 * x2
            power = (
                ((1.0 + C1 * x) + (C2 + C3 * x) * x2)
                + ((C4 + C5 * x) + (C6 + C7 * x) * x2) * x4
                + (((C8 + C9 * x) + (C10 + C11 * x) * x2) + C12 * x4) * (x4 * x4)
            )
            bits = np.float64(total * power).view(np.int64)
            carry = np.int64((bits >> 52) | SHIFT_BITS).view(np.float64) - (SHIFT + BIAS)
            cells[i + mantissa] = np.int64((bits & MANTISSA) | ONE).view(np.float64)
            cells[i + exponent] = peak + whole + carry
        cells[mantissa - 1], cells[exponent - 1] = 1.0, FAR
        cells[mantissa + lanes], cells[exponent + lanes] = 1.0, FAR
        kept = weights[t].reshape(-1)
        for i in range(lanes):
            kept[i] = cells[i + from_up]
        for i in range(lanes):
            kept[i + lanes] = cells[i + from_side]
    last = start + (frames2 - frames - low - odd) // 2
    logarithm: float = math.log(memory[last + mantissa]) + memory[last + exponent] * math.log(2.0)
    return logarithm


@cpu_kernel(**OPTIONS)
def sweep_band_visits(
    visits: Floats, frames: int, frames2: int, low: int, high: int, weights: Floats, seed: float, memory: Floats
) -> None:
    """Computes the visits of all cells of the band, from its last anti-diagonal to its first.

    Args:
        visits: receives the visits of the cells [blocks, columns, BLOCK]. Cells outside the band are not changed.
        frames: the number of rows of the matrix.
        frames2: the number of columns of the matrix.
        low: the lowest diagonal of the band, at most 0.
        high: the highest diagonal of the band, at least 0.
        weights: the probabilities that `sweep_band` wrote [anti-diagonals, 2, lanes].
        seed: the visits of the last cell.
        memory: working memory [MEMORY].
    """
    lanes, columns = weights.shape[2], visits.shape[1]
    # A record has the visits, and the visits that the cells of an anti-diagonal pass on: upwards, to the left, and to
    # the cell before them on the diagonal.
    visited, up, left, before = 1, FIELD + 1, 2 * FIELD + 1, 3 * FIELD + 1
    memory[:] = 0.0
    end = frames + frames2 - 2
    odd = (end - low) % 2
    start = MEMORY - 2 * RECORD - odd  # the record behind the last anti-diagonal
    memory[MEMORY - RECORD - 1 + before + (frames2 - frames - low - odd) // 2] = seed
    flat = visits.reshape(-1)
    for t in range(end, -1, -1):
        odd = (t - low) % 2
        top = (t - low - odd) // 2
        least = max(0, top - frames + 1, top - t)
        most = min((high - low - odd) // 2, top, frames2 - 1 - t + top)
        start -= RECORD - odd
        if start < 1:
            shift = MEMORY - 3 * RECORD - 1 - start
            for record in (start + RECORD - odd, start + 2 * RECORD - 1):
                for field in range(FIELD, 4 * FIELD, FIELD):
                    for i in range(record + field, record + field + lanes + 2):
                        memory[i + shift] = memory[i]
            start += shift
        cells = memory[start:]
        given, given2 = weights[t, 0], weights[t, 1]
        for i in range(lanes):
            visit = cells[i + RECORD - 1 + up] + cells[i + RECORD + left] + cells[i + 2 * RECORD - 1 + before]
            visit = visit if visit > TINY or visit < -TINY else 0.0
            upwards = visit * given[i]
            leftwards = visit * given2[i]
            cells[i + visited] = visit
            cells[i + up] = upwards
            cells[i + left] = leftwards
            cells[i + before] = visit - upwards - leftwards
        for field in (up, left, before):
            cells[field - 1], cells[field + lanes] = 0.0, 0.0
        lane = least
        while lane <= most:
            block = (top - lane) // BLOCK
            until = min(most, top - block * BLOCK)
            row, column = top - lane - block * BLOCK, t - top + lane - block * BLOCK - low
            place = (block * columns + column) * BLOCK + row
            for each in range(lane, until + 1):
                flat[place] = cells[visited + each]
                place += BLOCK - 1
            lane = until + 1
