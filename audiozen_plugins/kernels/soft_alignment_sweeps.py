"""Soft-DTW over a strip of rows of the matrix of distances, on the CPU.

`sweep_probabilities` goes forward through the anti-diagonals of a strip, and `sweep_visits` goes back through them.

Soft-DTW sums over all paths through the matrix. For each cell, `p[i, j]` is the sum over all paths that end in this
cell, an unnormalised probability: `p[i, j] = 2^score[i, j] * (p[i-1, j-1] + p[i-1, j] + p[i, j-1])`, with
`score = -distance / (gamma * ln 2)`. The *visits* of a cell are the gradient with respect to its distance: the
probability that a path visits the cell, times the gradient with respect to the cost.

No float type has the range of `p`. So each `p` is stored as a mantissa between 1 and 2 and an exponent, which is a
whole number in a float64. A sum then needs no logarithm, only one power of two with a fractional exponent, which a
polynomial computes. The code has no branches, so the compiler can vectorise the loop over the cells of an
anti-diagonal. A further advantage of this form is that the rounding error of a cost does not grow with the cost.

Within a strip, a cell has the indices (j, l). The column j is counted from the first column of the strip's first row,
and l is the row within the strip. Row l has the columns from `low[l]` to `high[l]`; neither limit decreases with l. The
anti-diagonal t = j + l has a cell in each row from `first` to `last`. The inner loops compute all `ROWS` rows
nevertheless, so that the compiler knows their length. Cells outside the band get the score `FAR`, so no path leads
through them.

Records of the last few anti-diagonals are kept in one flat array, at distances that the compiler knows. Without these
distances, the compiler could not tell that the records don't overlap, and would not vectorise the loop. Each record is
stored in front of the previous record, because the compiler does not vectorise a loop that may soon read what it just
wrote. When the start of the array is reached, the last two records are copied to its end.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from audiozen_plugins.kernels.on_cpu import cpu_kernel

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

FAR = -1e300  # the score of a cell that no path may visit; also the exponent of a cell that no path reaches
TINY = 1e-200  # visits below this are set to 0, because they would lead to denormal numbers, which are slow
SHIFT = 2.0**52  # adding it to a whole number moves the number into the lowest bits
SHIFT_BITS = 0x4330_0000_0000_0000
BIAS = 1023.0
MANTISSA = 0x000F_FFFF_FFFF_FFFF
ONE = 0x3FF0_0000_0000_0000
ROWS = 48  # the maximum number of rows of a strip: a multiple of the vector size, and small enough for the cache
FIELD = 56  # the length of one field of a record, with space for the rows and their neighbours
RECORD = 3 * FIELD
RECORDS = 32
C1, C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12 = (math.log(2) ** n / math.factorial(n) for n in range(1, 13))

# Sums keep their order, because the rounding by `SHIFT` depends on the order.
OPTIONS = {"error_model": "numpy", "fastmath": {"nnan", "ninf", "nsz", "contract"}}


@cpu_kernel(**OPTIONS)
def sweep_probabilities(  # noqa: PLR0915 (a call would keep the compiler from vectorising)
    scores: Floats,
    low: Ints,
    high: Ints,
    above: Floats,
    below: Floats,
    offset: int,
    weights: Floats,
    keep: bool,
    memory: Floats,
    line: Floats,
) -> float:
    """Computes `p` for the cells of a strip, from its first anti-diagonal to its last.

    Args:
        scores: the scores of the cells [columns * rows].
        low: the first column of each row [rows]; `low[0]` is 0.
        high: the last column of each row [rows].
        above: the mantissas and exponents of the row above the strip [2, count]. It starts at column -1.
        below: receives the mantissas and exponents of the last row of the strip [2, count]. It starts at column
            `offset`.
        offset: the column of the first cell of `below`.
        weights: receives, for each cell, the probability that a path comes to the cell from above, and the probability
            that it comes from the left [anti-diagonals * 2 * ROWS].
        keep: whether to write `weights`.
        memory: working memory [RECORDS * RECORD].
        line: working memory [ROWS].

    Returns:
        The natural logarithm of `p` for the last cell.
    """
    rows = low.size
    # A record has the mantissas and the exponents of all rows. The first row is the row above the strip.
    mantissa, exponent = 0, FIELD
    memory[:] = 1.0
    for start in range(0, RECORDS * RECORD, RECORD):
        memory[start + exponent : start + exponent + FIELD] = FAR
    line[:] = FAR
    here, left, before = 0, RECORD, 2 * RECORD  # the offsets of the records of this and the last two anti-diagonals
    start = (RECORDS - 2) * RECORD
    memory[start + mantissa], memory[start + exponent] = above[0, 1], above[1, 1]
    memory[start + RECORD + mantissa], memory[start + RECORD + exponent] = above[0, 0], above[1, 0]
    first, last = 0, -1
    for t in range(rows + high[rows - 1]):
        while last + 1 < rows and last + 1 + low[last + 1] <= t:
            last += 1
        while first + high[first] < t:
            line[first] = FAR
            first += 1
        for row in range(first, last + 1):
            line[row] = scores[(t - row) * rows + row]
        start -= RECORD
        if start < 0:
            start = (RECORDS - 3) * RECORD
            memory[start + RECORD :] = memory[: 2 * RECORD]
        cells = memory[start:]
        kept = weights[t * 2 * ROWS :]
        for i in range(ROWS):
            e_above = cells[i + left + exponent]
            e_left = cells[i + left + exponent + 1]
            e_before = cells[i + before + exponent]
            top = max(e_above, e_left, e_before)
            d_above = np.float64(max(e_above - top, -BIAS) + (SHIFT + BIAS))
            d_left = np.float64(max(e_left - top, -BIAS) + (SHIFT + BIAS))
            d_before = np.float64(max(e_before - top, -BIAS) + (SHIFT + BIAS))
            from_above = cells[i + left + mantissa] * np.int64(d_above.view(np.int64) << 52).view(np.float64)
            from_left = cells[i + left + mantissa + 1] * np.int64(d_left.view(np.int64) << 52).view(np.float64)
            from_before = cells[i + before + mantissa] * np.int64(d_before.view(np.int64) << 52).view(np.float64)
            total = from_above + from_left + from_before
            if keep:
                part = 1.0 / total
                kept[i] = from_above * part
                kept[i + ROWS] = from_left * part
            whole = np.rint(line[i])
            x = line[i] - whole
            x2 = x * x
            x4 = x2 * x2
            power = (
                ((1.0 + C1 * x) + (C2 + C3 * x) * x2)
                + ((C4 + C5 * x) + (C6 + C7 * x) * x2) * x4
                + (((C8 + C9 * x) + (C10 + C11 * x) * x2) + C12 * x4) * (x4 * x4)
            )
            bits = np.float64(total * power).view(np.int64)
            carry = np.int64((bits >> 52) | SHIFT_BITS).view(np.float64) - (SHIFT + BIAS)
            cells[i + here + mantissa + 1] = np.int64((bits & MANTISSA) | ONE).view(np.float64)
            cells[i + here + exponent + 1] = top + whole + carry
        cells[mantissa], cells[exponent] = 1.0, FAR
        if t + 2 < above.shape[1]:
            cells[mantissa], cells[exponent] = above[0, t + 2], above[1, t + 2]
        target = t - rows + 1 - offset
        if 0 <= target < below.shape[1]:
            below[0, target], below[1, target] = cells[mantissa + rows], cells[exponent + rows]
    end = start + here + rows
    logarithm: float = math.log(memory[end + mantissa]) + memory[end + exponent] * math.log(2.0)
    return logarithm


@cpu_kernel(**OPTIONS)
def sweep_visits(
    visits: Floats,
    low: Ints,
    high: Ints,
    weights: Floats,
    below: Floats,
    above: Floats,
    offset: int,
    memory: Floats,
    line: Floats,
) -> None:
    """Computes the visits of the cells of a strip, from its last anti-diagonal to its first.

    Args:
        visits: receives the visits of the cells [columns * rows]. Cells outside the band are not changed.
        low: the first column of each row [rows]; `low[0]` is 0.
        high: the last column of each row [rows].
        weights: the probabilities that `sweep_probabilities` wrote [anti-diagonals * 2 * ROWS].
        below: the visits that the last row receives from the row below the strip [count]. It starts at column 0.
        above: the visits that the row above the strip receives [count]. It starts at column `offset`. The sweep adds to
            it.
        offset: the column of the first cell of `above`.
        memory: working memory [RECORDS * RECORD].
        line: working memory [ROWS].
    """
    rows = low.size
    # A record has the visits that the cells of an anti-diagonal pass on: upwards, to the left, and to the cell before
    # them on the diagonal.
    up, left, before = 0, FIELD, 2 * FIELD
    memory[:] = 0.0
    first, last = rows - 1, rows - 1
    start = (RECORDS - 2) * RECORD
    for t in range(rows + high[rows - 1] - 1, -1, -1):
        while first > 0 and first - 1 + high[first - 1] >= t:
            first -= 1
        while last + low[last] > t:
            last -= 1
        start -= RECORD
        if start < 0:
            start = (RECORDS - 3) * RECORD
            memory[start + RECORD :] = memory[: 2 * RECORD]
        column = t - rows + 1
        cells = memory[start:]
        cells[RECORD + up + rows] = below[column] if 0 <= column < below.size else 0.0
        cell_weights = weights[t * 2 * ROWS :]
        for i in range(ROWS):
            visit = cells[i + RECORD + up + 1] + cells[i + RECORD + left] + cells[i + 2 * RECORD + before + 1]
            visit = visit if visit > TINY or visit < -TINY else 0.0
            line[i] = visit
            upwards = visit * cell_weights[i]
            leftwards = visit * cell_weights[i + ROWS]
            cells[i + up] = upwards
            cells[i + left] = leftwards
            cells[i + before] = visit - upwards - leftwards
        for row in range(first, last + 1):
            visits[(t - row) * rows + row] = line[row]
        if 0 <= t - offset < above.size:
            above[t - offset] += cells[up]
        if 0 <= t - 1 - offset < above.size:
            above[t - 1 - offset] += cells[before]
