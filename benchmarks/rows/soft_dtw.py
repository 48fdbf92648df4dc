"""Measures the forward and backward pass of Soft-DTW as a loss: the estimate needs a gradient, the target does not.

The peers are pysdtw and tslearn. Both compute the squared distances with a matrix product. This is the default of
pysdtw. By default, tslearn would need memory for frames × frames × features numbers. Before anything is measured, the
losses and gradients of all of them are compared.

A further row measures the peak memory of a step in its own process. Its goal is the size of one matrix of distances in
float32. Two more rows compare AudioZEN with a Sakoe-Chiba band and AudioZEN over the whole matrix. The last row shows
what such a step costs if there is next to nothing to align, for the bound of the first of these two rows.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping

import pysdtw
import torch
from pysdtw.distance import pairwise_l2_squared
from torch import Tensor
from tslearn.metrics import SoftDTWLossPyTorch

from audiozen_plugins.loss.soft_dtw import SoftDTWLoss
from benchmarks.measuring import Goal, Row, compare, cpu_seconds, peak_memory, printed_bytes, reset_peak

BATCH, FEATURES, FRAMES_MEMORY = 8, 80, 1000
FRAMES = {300: 5, 1000: 1}  # numbers of frames, each with the number of steps that are measured at once
BANDS = {1000: 51, 3000: 154}  # numbers of frames, each with the radius of a band that has a tenth of the cells
BATCH_BAND = 2
FEW_FRAMES = 16
MIB = 2**20


def sequences(frames: int, batch: int = BATCH) -> tuple[Tensor, Tensor]:
    """Returns an estimate, which needs a gradient, and a target. Both are float32 [batch, frames, features]."""
    torch.manual_seed(0)
    return torch.randn(batch, frames, FEATURES, requires_grad=True), torch.randn(batch, frames, FEATURES)


def step(loss: Callable[[Tensor, Tensor], Tensor], estimate: Tensor, target: Tensor) -> None:
    """Computes the mean loss over the batch, and its gradient."""
    estimate.grad = None
    torch.autograd.backward(loss(estimate, target).mean())


def peak_of_a_step(frames: int) -> int:
    """Returns by how many bytes a step, including its gradient, raises the peak of this process's resident memory."""
    loss = SoftDTWLoss()
    estimate, target = sequences(frames)
    step(loss, torch.randn(1, 40, FEATURES, requires_grad=True), torch.randn(1, 40, FEATURES))
    before = reset_peak()
    step(loss, estimate, target)
    return peak_memory() - before


def peak_in_a_process_of_its_own() -> float:
    """Calls `peak_of_a_step` in a new process."""
    program = (
        f"from benchmarks.rows.soft_dtw import peak_of_a_step; print(f'memory:{{peak_of_a_step({FRAMES_MEMORY})}}')"
    )
    return printed_bytes([sys.executable, "-c", program])


def check_equal(peers: Mapping[str, Callable[[Tensor, Tensor], Tensor]]) -> None:
    """Checks on short sequences that the peers compute the same loss and gradient as AudioZEN."""
    # The distances are small, so that more than one path counts, and float32 is precise enough.
    estimate, target = ((0.1 * x.detach()).requires_grad_(x.requires_grad) for x in sequences(60, 2))
    found = {}
    for name, loss in {"ours": SoftDTWLoss(), **peers}.items():
        estimate.grad = None
        value = loss(estimate, target).mean()
        torch.autograd.backward(value)
        assert estimate.grad is not None
        found[name] = value.detach(), estimate.grad.clone()
    for name in peers:
        for theirs, ours in zip(found[name], found["ours"], strict=True):
            difference = (torch.linalg.vector_norm(theirs - ours) / torch.linalg.vector_norm(ours)).item()
            if difference > 1e-4:
                raise RuntimeError(f"{name} differs from AudioZEN by {difference:.2g}, relative to AudioZEN")


def rows(rounds: int = 3) -> list[Row]:
    """Measures two rows for time, one for memory, and three for a band."""
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)  # as in a training run

    peers = {
        "pysdtw": pysdtw.SoftDTW(use_cuda=False),
        "tslearn": SoftDTWLossPyTorch(dist_func=pairwise_l2_squared),
    }
    check_equal(peers)

    def side(
        loss: Callable[[Tensor, Tensor], Tensor], frames: int, batch: int = BATCH, number: int = 1
    ) -> Callable[[], float]:
        estimate, target = sequences(frames, batch)
        return lambda: cpu_seconds(lambda: step(loss, estimate, target), number=number)

    measured = [
        compare(
            f"Soft-DTW, forward and backward, {BATCH} × {frames} frames",
            side(SoftDTWLoss(), frames, number=number),
            {name: side(peer, frames, number=number) for name, peer in peers.items()},
            unit="ms of CPU",
            scale=1000,
            goal=Goal("at most", 1 / 3),
            rounds=rounds,
        )
        for frames, number in FRAMES.items()
    ]
    measured.append(
        compare(
            f"Soft-DTW, peak memory, {BATCH} × {FRAMES_MEMORY} frames",
            peak_in_a_process_of_its_own,
            {"the goal, one distance matrix": lambda: 4.0 * BATCH * FRAMES_MEMORY**2},
            unit="MiB",
            scale=1 / MIB,
            goal=Goal("at most", 1),
            rounds=rounds,
            warm_up=0,
        )
    )

    def band(what: str, radius: int, frames: int, whole: int, number: int, goal: Goal | None) -> Row:
        return compare(
            what,
            side(SoftDTWLoss(band=radius), frames, BATCH_BAND, number),
            {f"ours, the whole matrix, {whole} frames": side(SoftDTWLoss(), whole, BATCH_BAND)},
            unit="ms of CPU",
            scale=1000,
            goal=goal,
            rounds=5 * rounds,
        )

    of_cells, goal = "Soft-DTW in a band of 10 % of the cells", Goal("at most", 0.15)
    measured += [
        band(f"{of_cells}, {frames} frames", radius, frames, frames, 3, goal) for frames, radius in BANDS.items()
    ]
    return [*measured, band(f"Soft-DTW in a band, {FEW_FRAMES} frames", 1, FEW_FRAMES, min(BANDS), 30, None)]
