"""The best assignment of the outputs of a separation network to the sources."""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor

MAX_SPEAKERS = 8
"""The largest number of speakers. All assignments are compared, and nine speakers have 362,880 assignments."""


def best_permutation(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the assignment with the highest mean score, for whole signals (utterance-level PIT).

    All assignments are compared at once, on the device of the scores.

    Args:
        scores: the score of each estimate for each source, [..., estimates, sources]. Both axes have the same length.

    Returns:
        The mean scores of the best assignments [...], which can be differentiated, and the assignments [..., sources].
        An assignment is the index of the estimate that belongs to each source.

    Raises:
        ValueError: the scores have another shape, or there are more than 8 sources.

    Example:
        >>> best_permutation(torch.tensor([[1.0, 5.0], [4.0, 9.0]]))
        (tensor(5.), tensor([0, 1]))
        >>> best_permutation(torch.tensor([[1.0, 9.0], [8.0, 9.0]]))
        (tensor(8.5000), tensor([1, 0]))
    """
    count = scores.shape[-1]
    if scores.ndim < 2 or scores.shape[-2] != count:
        raise ValueError(f"there must be as many estimates as sources, but the scores have the shape {[*scores.shape]}")
    if count > MAX_SPEAKERS:
        raise ValueError(f"there are {count} sources, but all assignments can be compared for at most {MAX_SPEAKERS}")
    permutations = _permutations(count, scores.device)
    sources = torch.arange(count, device=scores.device)
    assignments = permutations[scores.detach()[..., permutations, sources].mean(-1).argmax(-1)]
    return scores.gather(-2, assignments.unsqueeze(-2)).squeeze(-2).mean(-1), assignments


def reordered(estimates: Tensor, assignments: Tensor) -> Tensor:
    """Returns estimates [..., sources, time] in the order of the sources.

    Args:
        estimates: waveforms.
        assignments: the index of the estimate that belongs to each source, [..., sources].

    Example:
        >>> reordered(torch.tensor([[1.0, 1.0], [2.0, 2.0]]), torch.tensor([1, 0]))
        tensor([[2., 2.],
                [1., 1.]])
    """
    return estimates.gather(-2, assignments.unsqueeze(-1).expand(*assignments.shape, estimates.shape[-1]))


@functools.cache  # otherwise each step would copy the permutations to the GPU, and wait for the copy
def _permutations(count: int, device: torch.device) -> Tensor:
    return torch.tensor(list(itertools.permutations(range(count))), device=device)
