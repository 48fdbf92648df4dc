"""Each (seed, epoch, index) gives streams of its own to Python, NumPy and Torch."""

import itertools
import random

import numpy as np
import pytest
import torch

from audiozen_core.data.seeding import derive_seeds, generator_states, seed_from, set_generator_states

SIZES = (8, 8, 64)
"""Seeds, epochs and indices of the grid."""

LIMIT = 5 / (SIZES[0] * SIZES[1] * SIZES[2]) ** 0.5
"""Five standard deviations of the correlation between two independent rows of that many numbers."""


@pytest.fixture(autouse=True)
def _keep_generators():
    states = generator_states()
    yield
    set_generator_states(states)


def first_draws(seed):
    """The first number of each generator for each key of the grid: [generators, seeds, epochs, indices]."""
    draws = []
    for key in itertools.product(*map(range, SIZES)):
        seed(*key)
        draws.append((random.random(), np.random.rand(), torch.rand((), dtype=torch.float64).item()))
    return np.array(draws).T.reshape(3, *SIZES)


def largest_correlation(draws):
    """Between each generator and every generator of the same key and of the keys around it."""
    largest = 0.0
    for one, other, step in itertools.product(range(3), range(3), itertools.product((-1, 0, 1), repeat=3)):
        if one == other and not any(step):
            continue
        shifted = np.roll(draws[other], step, axis=(0, 1, 2))
        largest = max(largest, abs(np.corrcoef(draws[one].ravel(), shifted.ravel())[0, 1]))
    return largest


def test_neighbouring_keys_and_the_three_generators_are_independent():
    draws = first_draws(seed_from)
    assert len(np.unique(draws)) == draws.size
    assert largest_correlation(draws) < LIMIT
    assert abs(draws.mean() - 0.5) < 0.01


def test_seeding_with_the_sum_of_the_numbers_would_fail_that_test():
    def seed(*numbers):
        random.seed(sum(numbers))
        np.random.seed(sum(numbers))
        torch.default_generator.manual_seed(sum(numbers))

    draws = first_draws(seed)
    assert len(np.unique(draws)) < draws.size
    assert largest_correlation(draws) > 10 * LIMIT


def test_numbers_of_different_count_give_different_seeds():
    assert len({derive_seeds(*numbers) for numbers in [(1, 2), (1, 2, 0), (12,), (-1, 2), (2**70, 2)]}) == 5


def test_seeds_are_the_same_on_every_machine():
    """A run may resume on another machine."""
    assert derive_seeds(0, 1, 2) == (1821348257668951299, 16126506680994340379, 264996996)


def test_restored_generators_continue_in_the_middle_of_a_pair_of_normals():
    """Each of these generators draws normals in pairs and keeps the second one."""

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
