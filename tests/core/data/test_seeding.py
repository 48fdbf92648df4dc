"""Each (seed, epoch, index) gives Python, NumPy and Torch independent streams of random numbers."""

import itertools
import random

import numpy as np
import pytest
import torch

from audiozen_core.data.seeding import derive_seeds, generator_states, seed_from, set_generator_states

SIZES = (8, 8, 64)
"""How many seeds, epochs and indices the grid has."""

LIMIT = 5 / (SIZES[0] * SIZES[1] * SIZES[2]) ** 0.5
"""Five standard deviations of the correlation between two independent rows, with one number per key of the grid."""


@pytest.fixture(autouse=True)
def _keep_generators():
    states = generator_states()
    yield
    set_generator_states(states)


def first_draws(seed):
    """Returns the first number of each generator for each key of the grid: [generators, seeds, epochs, indices]."""
    draws = []
    for key in itertools.product(*map(range, SIZES)):
        seed(*key)
        draws.append((random.random(), np.random.rand(), torch.rand((), dtype=torch.float64).item()))
    return np.array(draws).T.reshape(3, *SIZES)


def largest_correlation(draws):
    """Returns the largest correlation between two generators at the same key or at neighbouring keys."""
    largest = 0.0
    for one, other, step in itertools.product(range(3), range(3), itertools.product((-1, 0, 1), repeat=3)):
        if one == other and not any(step):
            continue
        shifted = np.roll(draws[other], step, axis=(0, 1, 2))
        largest = max(largest, abs(np.corrcoef(draws[one].ravel(), shifted.ravel())[0, 1]))
    return largest


def test_generators_are_independent_at_the_same_and_neighbouring_keys():
    draws = first_draws(seed_from)
    assert len(np.unique(draws)) == draws.size
    assert largest_correlation(draws) < LIMIT
    assert abs(draws.mean() - 0.5) < 0.01


def test_seeding_with_a_sum_fails_the_test_of_independence():
    def seed(*numbers):
        random.seed(sum(numbers))
        np.random.seed(sum(numbers))
        torch.default_generator.manual_seed(sum(numbers))

    draws = first_draws(seed)
    assert len(np.unique(draws)) < draws.size
    assert largest_correlation(draws) > 10 * LIMIT


def test_different_tuples_of_numbers_give_different_seeds():
    assert len({derive_seeds(*numbers) for numbers in [(1, 2), (1, 2, 0), (12,), (-1, 2), (2**70, 2)]}) == 5


def test_seeds_are_the_same_on_every_machine():
    """A run may resume on another machine, where it must draw the same numbers."""
    assert derive_seeds(0, 1, 2) == (1821348257668951299, 16126506680994340379, 264996996)


def test_restored_generators_continue_within_a_pair_of_normal_numbers():
    """Each of these generators draws normal numbers in pairs and stores the second number."""

    def draw():
        return random.gauss(0, 1), np.random.randn(), torch.randn(1).item()

    draw()
    states = generator_states()
    expected = draw()
    seed_from(1, 2, 3)
    draw()
    set_generator_states(states)
    assert draw() == expected


def test_the_generator_of_the_gpu_is_not_seeded(monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    seed_from(1, 2, 3)
    assert seeded == []
    torch.manual_seed(0)
    assert seeded == [0]
