"""The best assignment of estimates to true sources."""

from __future__ import annotations

import functools
import itertools

import torch
from torch import Tensor

_HUGE = 1e9


def best_permutation(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Finds the assignment with the highest mean score, for whole signals (utterance-level PIT).

    All assignments are compared at once. There are `sources!` of them, so this is for up to about seven sources.

    Args:
        scores: the score of each estimate for each source, [..., estimates, sources], with equally many estimates and
            sources.

    Returns:
        The mean scores of the best assignments [...], and the assignments [..., sources]: which estimate belongs to each
        source. If a score is NaN, so is the mean.
    """
    permutations = _permutations(scores.shape[-1], scores.device)
    sources = torch.arange(scores.shape[-1], device=scores.device)
    # A perfect estimate has an infinite score. It must not make all assignments that contain it equal.
    compared = scores.detach().nan_to_num(nan=torch.nan, posinf=_HUGE, neginf=-_HUGE)
    assignments = permutations[compared[..., permutations, sources].mean(-1).argmax(-1)]
    return scores.gather(-2, assignments.unsqueeze(-2)).squeeze(-2).mean(-1), assignments


@functools.cache  # without the cache, each step would copy the permutations to the GPU and wait
def _permutations(count: int, device: torch.device) -> Tensor:
    return torch.tensor(list(itertools.permutations(range(count))), device=device)
