"""GRUs with few units, forward and backward, in one loop over the steps on the CPU.

PyTorch starts ten operations for each step of a GRU, and thirty for its gradients. With 4 to 16 units, starting an
operation takes longer than computing it. Here one loop over the steps computes a tile of `LANES` sequences. The
sequences are the last axis of all buffers, so an inner loop computes 8 or 16 of them with one instruction.

A unit has four sums: new, reset, update, hidden. The sum "hidden" is the part of the new value that comes from the
hidden units; the reset gate scales it. The weighted inputs are added to the first three sums, and the weighted hidden
units to the last three. Each inner loop uses few arrays, because LLVM does not vectorise loops over many arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from audiozen_plugins.kernels.on_cpu import cpu_kernel, fast_sums

LANES = 32
_GATES = [1, 2, 0]  # the indices of the sums reset, update, new, which is PyTorch's order
_F = np.float32

# "contract" allows fused multiply-add instructions. With "numpy", the code does not check for a division by 0.
_fast = cpu_kernel(fastmath={"contract", "nsz"}, error_model="numpy")


def padded(weights: list[Any]) -> tuple[Any, Any, Any]:
    """Converts the four arrays of each cell from PyTorch's layout to the padded layout that `forward` takes."""
    cells, units, inputs = len(weights) // 4, len(weights[1][0]), len(weights[0][0])
    more_units, more_inputs = units + -units % 4, inputs + -inputs % 4
    w_x = np.zeros((cells, 3, more_units, more_inputs), np.float32)
    w_h = np.zeros((cells, 3, more_units, more_units), np.float32)
    biases = np.zeros((cells, 4, more_units), np.float32)
    for cell in range(cells):
        of_x, of_h, bias_x, bias_h = (weight.reshape(3, units, -1) for weight in weights[4 * cell : 4 * cell + 4])
        w_x[cell, _GATES, :units, :inputs] = of_x
        w_h[cell, :, :units, :units] = of_h
        biases[cell, _GATES, :units] = bias_x[..., 0]
        biases[cell, 1:, :units] += bias_h[..., 0]
    return w_x.reshape(cells, 3 * more_units, -1), w_h.reshape(cells, 3 * more_units, -1), biases.reshape(cells, -1)


def unpadded(w_x: Any, w_h: Any, biases: Any, *, inputs: int, units: int) -> Iterator[Any]:
    """Converts gradients from the layout of `forward` back to PyTorch's layout."""
    for of_x, of_h, bias in zip(w_x, w_h, biases, strict=True):
        for gates, size in ((of_x.reshape(3, -1, of_x.shape[1])[_GATES], inputs), (of_h, units)):
            yield np.ascontiguousarray(gates.reshape(3, -1, gates.shape[-1])[:, :units, :size]).reshape(3 * units, size)
        sums = bias.reshape(4, -1)[:, :units]
        yield sums[_GATES].reshape(-1)
        yield np.ascontiguousarray(sums[1:]).reshape(-1)


@_fast
def tanh(x: Any) -> Any:
    """Computes the hyperbolic tangent with the rational function of Eigen. The error is below 3e-7; NaN stays NaN."""
    x = _F(7.9053111) if x > _F(7.9053111) else x
    x = _F(-7.9053111) if x < _F(-7.9053111) else x
    y = x * x
    p = _F(-2.76076847742355e-16) * y + _F(2.00018790482477e-13)
    p = p * y + _F(-8.60467152213735e-11)
    p = p * y + _F(5.12229709037114e-08)
    p = p * y + _F(1.48572235717979e-05)
    p = p * y + _F(6.37261928875436e-04)
    p = p * y + _F(4.89352455891786e-03)
    q = _F(1.19825839466702e-06) * y + _F(1.18534705686654e-04)
    q = q * y + _F(2.26843463243900e-03)
    q = q * y + _F(4.89352518554385e-03)
    return x * p / q


@_fast
def add_product(weights: Any, values: Any, sums: Any) -> None:
    """Adds `weights` [rows, inner] times `values` [inner, LANES] to `sums` [rows, LANES].

    `rows` and `inner` must be multiples of 4.
    """
    for row in range(0, weights.shape[0], 4):
        for k in range(0, weights.shape[1], 4):
            a0, a1 = weights[row, k], weights[row, k + 1]
            a2, a3 = weights[row, k + 2], weights[row, k + 3]
            b0, b1 = weights[row + 1, k], weights[row + 1, k + 1]
            b2, b3 = weights[row + 1, k + 2], weights[row + 1, k + 3]
            c0, c1 = weights[row + 2, k], weights[row + 2, k + 1]
            c2, c3 = weights[row + 2, k + 2], weights[row + 2, k + 3]
            d0, d1 = weights[row + 3, k], weights[row + 3, k + 1]
            d2, d3 = weights[row + 3, k + 2], weights[row + 3, k + 3]
            for lane in range(LANES):
                x0, x1, x2, x3 = values[k, lane], values[k + 1, lane], values[k + 2, lane], values[k + 3, lane]
                sums[row, lane] += a0 * x0 + a1 * x1 + a2 * x2 + a3 * x3
                sums[row + 1, lane] += b0 * x0 + b1 * x1 + b2 * x2 + b3 * x3
                sums[row + 2, lane] += c0 * x0 + c1 * x1 + c2 * x2 + c3 * x3
                sums[row + 3, lane] += d0 * x0 + d1 * x1 + d2 * x2 + d3 * x3


@fast_sums
def add_outer(left: Any, right: Any, sums: Any) -> None:
    """Adds `left` [rows, LANES] times the transposed `right` [columns, LANES] to `sums` [rows, columns].

    `rows` and `columns` must be even.
    """
    for row in range(0, left.shape[0], 2):
        for column in range(0, right.shape[0], 2):
            sum_00 = sum_01 = sum_10 = sum_11 = _F(0)
            for lane in range(LANES):
                left_0, left_1 = left[row, lane], left[row + 1, lane]
                right_0, right_1 = right[column, lane], right[column + 1, lane]
                sum_00 += left_0 * right_0
                sum_01 += left_0 * right_1
                sum_10 += left_1 * right_0
                sum_11 += left_1 * right_1
            sums[row, column] += sum_00
            sums[row, column + 1] += sum_01
            sums[row + 1, column] += sum_10
            sums[row + 1, column + 1] += sum_11


@_fast
def place_lanes(shape: Any, start: int, count: int, offsets: Any) -> None:
    """Fills `offsets` with the starts of a tile's sequences in a flattened array [before, steps, after, channels].

    The offsets are unsigned, because numba would check at each access whether a signed index is negative.
    """
    for lane in range(count):
        before, after = (start + lane) // shape[2], (start + lane) % shape[2]
        offsets[lane] = (before * shape[1] * shape[2] + after) * shape[3]


@_fast
def read_lanes(values: Any, offsets: Any, first: int, count: int, rows: int, lanes: Any) -> None:
    """Copies `rows` values of each sequence to `lanes` [rows, LANES], from the index `first` of the sequence on."""
    for row in range(rows):
        place = np.uint64(first + row)
        for lane in range(count):
            lanes[row, lane] = values[offsets[lane] + place]


@_fast
def write_lanes(values: Any, offsets: Any, first: int, count: int, rows: int, lanes: Any) -> None:
    """Copies `lanes` [rows, LANES] back to the places that `read_lanes` reads."""
    for row in range(rows):
        place = np.uint64(first + row)
        for lane in range(count):
            values[offsets[lane] + place] = lanes[row, lane]


@_fast
def add_lanes(values: Any, offsets: Any, first: int, count: int, rows: int, lanes: Any) -> None:
    """Adds `lanes` [rows, LANES] to the values at the places that `read_lanes` reads."""
    for row in range(rows):
        place = np.uint64(first + row)
        for lane in range(count):
            values[offsets[lane] + place] += lanes[row, lane]


@_fast
def parts(values: Any) -> Any:
    """Splits values [4 * units, LANES] into four flat arrays, one for each sum. A loop over a flat array is faster."""
    flat = values.reshape(-1)
    size = flat.size // 4
    return flat[:size], flat[size : 2 * size], flat[2 * size : 3 * size], flat[3 * size :]


@_fast
def add_up(w_x: Any, w_h: Any, biases: Any, xs: Any, hs: Any, step_values: Any) -> None:
    """Computes one step: fills `step_values` [4 * units*, LANES] with the new values, gates and hidden sums."""
    padded, half = hs.shape[0], _F(0.5)
    for row in range(4 * padded):
        bias = biases[row]
        for lane in range(LANES):
            step_values[row, lane] = bias
    add_product(w_x, xs, step_values[: 3 * padded])
    add_product(w_h, hs, step_values[padded:])
    new, reset, update, hidden = parts(step_values)
    for i in range(new.size):
        reset[i] = half * tanh(half * reset[i]) + half
    for i in range(new.size):
        update[i] = half * tanh(half * update[i]) + half
    for i in range(new.size):
        new[i] = tanh(new[i] + reset[i] * hidden[i])


@_fast
def forward(x: Any, w_x: Any, w_h: Any, biases: Any, inputs: int, directions: int, output: Any, state: Any) -> None:
    """Runs all cells over all steps. A cell is one direction of one GRU.

    Sizes with a star are padded to a multiple of 4.

    Args:
        x: the inputs [before, steps, after, channels].
        w_x: the weights of the inputs for the sums new, reset, update [cells, 3 * units*, inputs*].
        w_h: the weights of the hidden units for the sums reset, update, hidden [cells, 3 * units*, units*].
        biases: the biases of all four sums [cells, 4 * units*].
        inputs: the number of inputs of a cell.
        directions: the number of directions, 1 or 2.
        output: receives the outputs [before, steps, after, cells * units].
        state: the first state [cells, before * after, units]; it is overwritten with the last state.
    """
    steps, after = x.shape[1], x.shape[2]
    cells, batch, units = state.shape
    padded = w_h.shape[2]
    size = padded * LANES
    places_x, places_h = np.empty(LANES, np.uint64), np.empty(LANES, np.uint64)
    jump_x, jump_h = after * x.shape[3], after * cells * units
    flat_x, flat_h = x.reshape(-1), output.reshape(-1)
    xs = np.zeros((w_x.shape[2], LANES), np.float32)
    hs = np.zeros((padded, LANES), np.float32)
    step_values = np.empty((4 * padded, LANES), np.float32)
    new, _, update, _ = parts(step_values)
    flat_hs = hs.reshape(-1)
    for cell in range(cells):
        first = cell // directions * inputs
        for tile in range((batch + LANES - 1) // LANES):
            start = tile * LANES
            count = min(LANES, batch - start)
            place_lanes(x.shape, start, count, places_x)
            place_lanes(output.shape, start, count, places_h)
            for lane in range(count):
                for j in range(units):
                    hs[j, lane] = state[cell, start + lane, j]
            for step in range(steps):
                t = steps - 1 - step if cell % directions else step
                read_lanes(flat_x, places_x, t * jump_x + first, count, inputs, xs)
                add_up(w_x[cell], w_h[cell], biases[cell], xs, hs, step_values)
                for i in range(size):
                    flat_hs[i] = new[i] + update[i] * (flat_hs[i] - new[i])
                write_lanes(flat_h, places_h, t * jump_h + cell * units, count, units, hs)
            for lane in range(count):
                for j in range(units):
                    state[cell, start + lane, j] = hs[j, lane]


@_fast
def backward(  # noqa: PLR0912, PLR0915 - numba compiles one loop
    x: Any,
    w_x: Any,
    w_h: Any,
    biases: Any,
    turned_x: Any,
    turned_h: Any,
    inputs: int,
    directions: int,
    output: Any,
    state: Any,
    grad_output: Any,
    grad_state: Any,
    grad_x: Any,
    grad_w_x: Any,
    grad_w_h: Any,
    grad_biases: Any,
) -> None:
    """Adds to the gradients of `x`, the weights and the biases, which have the same shapes as in `forward`.

    The backward pass computes the gates again. Keeping them would take more than ten times the memory of the output.

    Args:
        x: as in `forward`.
        w_x: as in `forward`.
        w_h: as in `forward`.
        biases: as in `forward`.
        turned_x: `w_x` with its last two axes transposed.
        turned_h: `w_h` with its last two axes transposed.
        inputs: as in `forward`.
        directions: as in `forward`.
        output: the outputs that `forward` wrote.
        state: the first state.
        grad_output: the gradient of `output`.
        grad_state: the gradient of the last state; it is overwritten with the gradient of the first state.
        grad_x: the gradient of `x`.
        grad_w_x: the gradient of the weights of the inputs.
        grad_w_h: the gradient of the weights of the hidden units.
        grad_biases: the gradient of the biases.
    """
    steps, after = x.shape[1], x.shape[2]
    cells, batch, units = state.shape
    padded = w_h.shape[2]
    size = padded * LANES
    places_x, places_h = np.empty(LANES, np.uint64), np.empty(LANES, np.uint64)
    jump_x, jump_h = after * x.shape[3], after * cells * units
    flat_x, flat_h, flat_grad_x, flat_grad_h = (
        x.reshape(-1),
        output.reshape(-1),
        grad_x.reshape(-1),
        grad_output.reshape(-1),
    )
    xs = np.zeros((w_x.shape[2], LANES), np.float32)
    dx = np.zeros((w_x.shape[2], LANES), np.float32)
    dh = np.zeros((padded, LANES), np.float32)
    earlier = np.zeros((padded, LANES), np.float32)
    from_output = np.zeros((padded, LANES), np.float32)
    d = np.zeros((4 * padded, LANES), np.float32)
    sums = np.zeros((4 * padded, LANES), np.float32)
    flat_dh, flat_earlier, flat_from_output = dh.reshape(-1), earlier.reshape(-1), from_output.reshape(-1)
    flat_d, flat_sums, one = d.reshape(-1), sums.reshape(-1), _F(1)
    step_values = np.empty((4 * padded, LANES), np.float32)
    new, reset, update, hidden = parts(step_values)
    d_new, d_reset, d_update, d_hidden = parts(d)
    for cell in range(cells):
        sums[:] = 0
        first = cell // directions * inputs
        for tile in range((batch + LANES - 1) // LANES):
            start = tile * LANES
            count = min(LANES, batch - start)
            place_lanes(x.shape, start, count, places_x)
            place_lanes(output.shape, start, count, places_h)
            # Lanes without a sequence must add nothing to the gradients of the weights.
            dh[:] = 0
            xs[:] = 0
            earlier[:] = 0
            from_output[:] = 0
            for lane in range(count):
                for j in range(units):
                    dh[j, lane] = grad_state[cell, start + lane, j]
            for step in range(steps - 1, -1, -1):
                t = steps - 1 - step if cell % directions else step
                read_lanes(flat_x, places_x, t * jump_x + first, count, inputs, xs)
                read_lanes(flat_grad_h, places_h, t * jump_h + cell * units, count, units, from_output)
                if step:
                    other = t + 1 if cell % directions else t - 1
                    read_lanes(flat_h, places_h, other * jump_h + cell * units, count, units, earlier)
                else:
                    for lane in range(count):
                        for j in range(units):
                            earlier[j, lane] = state[cell, start + lane, j]
                add_up(w_x[cell], w_h[cell], biases[cell], xs, earlier, step_values)
                for i in range(size):
                    flat_dh[i] += flat_from_output[i]
                for i in range(size):
                    d_new[i] = flat_dh[i] * (one - update[i]) * (one - new[i] * new[i])
                for i in range(size):
                    d_hidden[i] = d_new[i] * reset[i]
                for i in range(size):
                    d_reset[i] = d_hidden[i] * hidden[i] * (one - reset[i])
                for i in range(size):
                    d_update[i] = flat_dh[i] * (flat_earlier[i] - new[i])
                for i in range(size):
                    d_update[i] *= update[i] * (one - update[i])
                for i in range(size):
                    flat_dh[i] *= update[i]
                for i in range(4 * size):
                    flat_sums[i] += flat_d[i]
                dx[:] = 0
                add_product(turned_x[cell], d[: 3 * padded], dx)
                add_product(turned_h[cell], d[padded:], dh)
                add_outer(d[: 3 * padded], xs, grad_w_x[cell])
                add_outer(d[padded:], earlier, grad_w_h[cell])
                add_lanes(flat_grad_x, places_x, t * jump_x + first, count, inputs, dx)
            for lane in range(count):
                for j in range(units):
                    grad_state[cell, start + lane, j] = dh[j, lane]
        for row in range(4 * padded):
            for lane in range(LANES):
                grad_biases[cell, row] += sums[row, lane]
