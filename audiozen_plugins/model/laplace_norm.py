"""Norms that divide by a mean, so that a network does not depend on the level of its input."""

from __future__ import annotations

import torch
from torch import Tensor

from audiozen_plugins.model.past import keep, recall

_TINY = 2.0**-52


def offline_laplace_norm(x: Tensor) -> Tensor:
    """Divides each sequence by its mean.

    Args:
        x: [frames, batch, …].

    Example:
        >>> offline_laplace_norm(torch.tensor([[[1.0, 3.0]], [[2.0, 6.0]]])).flatten().tolist()
        [0.3333333432674408, 1.0, 0.6666666865348816, 2.0]
    """
    return x / (_mean_of_frames(x).mean(0) + _TINY)


def cumulative_laplace_norm(x: Tensor) -> Tensor:
    """Divides each frame by the mean over this frame and all earlier frames, so later frames don't affect the output.

    If a signal comes in pieces (see `Past`), the mean also includes the frames of earlier pieces.

    Args:
        x: [frames, batch, …].

    Example:
        >>> cumulative_laplace_norm(torch.tensor([[[1.0, 3.0]], [[2.0, 6.0]]])).flatten().tolist()
        [0.5, 1.5, 0.6666666865348816, 2.0]
    """
    means = _mean_of_frames(x)
    # The sum is float64, so that a spiking network after this norm sends the same spikes even if a signal comes in
    # pieces.
    wide = torch.float32 if x.device.type == "mps" else torch.float64
    total, count = recall() or (torch.zeros_like(means[0], dtype=wide), 0)
    counts = torch.arange(count + 1, count + len(x) + 1, device=x.device).reshape(-1, *[1] * (x.ndim - 1))
    totals = torch.cat([total.unsqueeze(0), means.to(wide)]).cumsum(0)[1:]
    keep((totals[-1], count + len(x)))
    return x / (totals.to(x.dtype) / counts + _TINY)


def _mean_of_frames(x: Tensor) -> Tensor:
    """Returns the mean of each frame of each sequence [frames, batch, 1, …]."""
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)
