"""Measures the forward and backward pass of Soft-DTW on a GPU: with the kernel, in plain PyTorch, and with pysdtw.

    python -m benchmarks.soft_dtw_on_gpu

The script prints the time in milliseconds, and the peak memory in addition to the inputs. Both are medians over some
rounds. pysdtw needs `numba` with CUDA, and supports at most 1024 frames.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from audiozen_plugins.loss.soft_dtw import SoftDTWLoss, plain_cost

SIZES = ((8, 300, 80), (8, 1000, 80), (8, 3000, 80))
BAND = 10  # the radius of the band is the number of frames divided by this
ROUNDS = 5


def step(loss: Callable[[Tensor, Tensor], Tensor], estimate: Tensor, target: Tensor) -> tuple[float, float]:
    """Computes a loss and its gradient once. Returns the time in milliseconds, and the peak memory in MiB."""
    estimate.grad = None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    torch.autograd.backward(loss(estimate, target).mean())
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end), (torch.cuda.max_memory_allocated() - before) / 2**20


def losses(frames: int) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Returns the losses to compare for sequences of this length, by name."""
    sides: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "kernel": SoftDTWLoss(),
        "kernel with a band": SoftDTWLoss(band=frames // BAND),
        "plain": lambda estimate, target: plain_cost(estimate, target, 1.0, None),
    }
    try:
        import pysdtw
    except ImportError:
        return sides
    return sides | ({"pysdtw": pysdtw.SoftDTW(use_cuda=True)} if frames <= 1024 else {})


def main() -> None:
    """Prints one line for each size and each loss."""
    print(torch.cuda.get_device_name())
    for batch, frames, features in SIZES:
        torch.manual_seed(0)
        estimate = torch.randn(batch, frames, features, device="cuda", requires_grad=True)
        target = torch.randn(batch, frames, features, device="cuda")
        for name, loss in losses(frames).items():
            try:
                step(loss, estimate, target)
                taken = [step(loss, estimate, target) for _ in range(ROUNDS)]
            except Exception as error:  # such as pysdtw without CUDA: print the reason, and go on
                print(f"B{batch} T{frames} F{features} {name}: {type(error).__name__}: {error}")
                continue
            time, memory = (statistics.median(values) for values in zip(*taken, strict=True))
            print(f"B{batch} T{frames} F{features} {name}: {time:.2f} ms, {memory:.0f} MiB")


if __name__ == "__main__":
    main()
