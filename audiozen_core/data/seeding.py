"""The global random generators of Python, NumPy and Torch: seeded from a few numbers, saved and restored."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator

GeneratorStates = tuple[Any, Any, torch.Tensor]


def seed_from(*numbers: int) -> None:
    """Seeds the global CPU generators of Python, NumPy and Torch.

    The seeds are a hash of the numbers. So neighbours such as (seed, epoch, 3) and (seed, epoch, 4) get independent
    streams, and so do the three generators.
    """
    python_seed, torch_seed, numpy_seed = derive_seeds(*numbers)
    random.seed(python_seed)
    np.random.seed(numpy_seed)
    # `torch.manual_seed` would also seed the GPU's generator, which the run uses.
    torch.default_generator.manual_seed(torch_seed)


def derive_seeds(*numbers: int) -> tuple[int, int, int]:
    """Hashes the numbers to three independent seeds: two of 64 bits and one of 32 bits, the most that NumPy takes."""
    # A hash of 2 µs. np.random.SeedSequence takes 16 µs, and this runs for each item of a data set.
    digest = blake2b(" ".join(map(str, numbers)).encode(), digest_size=20).digest()
    first, second, third = struct.unpack("<QQL", digest)
    return first, second, third


def generator_states() -> GeneratorStates:
    """Copies the states of the global CPU generators, for `set_generator_states`."""
    return random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()


def set_generator_states(states: GeneratorStates) -> None:
    """Restores the states of the global CPU generators that `generator_states` returned."""
    python_state, numpy_state, torch_state = states
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    torch.set_rng_state(torch_state)


class OwnGenerators:
    """Global CPU generators for a block of code, which seeds them itself; afterwards those from before are back.

    Copying a state of NumPy's generator takes 60 µs, because it is converted number by number. So this exchanges the
    generator itself. NumPy then forgets the second number of a pair of normal ones that it may have kept.
    """

    def __init__(self) -> None:
        self._numpy = np.random.MT19937()

    def __enter__(self) -> None:
        """Puts generators in place whose states are not defined."""
        self._before = random.getstate(), get_bit_generator(), torch.default_generator.get_state()
        set_bit_generator(self._numpy)

    def __exit__(self, *_: object) -> None:
        """Puts the generators from before back."""
        python_state, numpy_generator, torch_state = self._before
        random.setstate(python_state)
        set_bit_generator(numpy_generator)
        torch.default_generator.set_state(torch_state)


def forget_half_pairs() -> None:
    """Lets NumPy forget the second number of a pair of normal ones, as `OwnGenerators` does."""
    set_bit_generator(get_bit_generator())


@contextmanager
def keep_generators() -> Iterator[None]:
    """Restores the global CPU generators after the block."""
    before = generator_states()
    try:
        yield
    finally:
        set_generator_states(before)
