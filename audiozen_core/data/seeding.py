"""Seeds, saves and restores the global random generators of Python, NumPy and torch."""

from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.random.mtrand import get_bit_generator, set_bit_generator

GeneratorStates = tuple[Any, Any, torch.Tensor]


def seed_from(*numbers: int) -> None:
    """Seeds the global CPU generators of Python, NumPy and torch.

    The seeds are a hash of the numbers. Therefore similar numbers such as (seed, epoch, 3) and (seed, epoch, 4) give
    independent random numbers, and the three generators are independent of each other.
    """
    python_seed, torch_seed, numpy_seed = derive_seeds(*numbers)
    random.seed(python_seed)
    np.random.seed(numpy_seed)
    # `torch.manual_seed` would also seed the generators of the GPUs, which belong to the run.
    torch.default_generator.manual_seed(torch_seed)


def derive_seeds(*numbers: int) -> tuple[int, int, int]:
    """Hashes the numbers to three independent seeds: two with 64 bits, and one with 32 bits, NumPy's maximum."""
    # This runs for each item of a data set, and np.random.SeedSequence is many times slower.
    digest = blake2b(" ".join(map(str, numbers)).encode(), digest_size=20).digest()
    first, second, third = struct.unpack("<QQL", digest)
    return first, second, third


def generator_states() -> GeneratorStates:
    """Copies the states of the global CPU generators, for `set_generator_states`."""
    return random.getstate(), np.random.get_state(legacy=False), torch.get_rng_state()


def set_generator_states(states: GeneratorStates) -> None:
    """Sets the states of the global CPU generators to states that `generator_states` returned."""
    python_state, numpy_state, torch_state = states
    random.setstate(python_state)
    np.random.set_state(numpy_state)
    torch.set_rng_state(torch_state)


class OwnGenerators:
    """A context manager that replaces the global CPU generators within a block of code.

    The block must seed the generators itself, because their states are undefined at its start. For NumPy, this class
    swaps the generator object, because copying its state is slow. As a side effect, NumPy loses a cached normal
    number. NumPy draws normal numbers in pairs, and keeps the second number of a pair for the next call.
    """

    def __init__(self) -> None:
        self._numpy = np.random.MT19937()

    def __enter__(self) -> None:
        """Installs generators whose states are undefined."""
        self._before = random.getstate(), get_bit_generator(), torch.default_generator.get_state()
        set_bit_generator(self._numpy)

    def __exit__(self, *_: object) -> None:
        """Restores the previous generators."""
        python_state, numpy_generator, torch_state = self._before
        random.setstate(python_state)
        set_bit_generator(numpy_generator)
        torch.default_generator.set_state(torch_state)


def forget_half_pairs() -> None:
    """Makes NumPy forget the cached second number of a pair of normal numbers, as `OwnGenerators` does."""
    set_bit_generator(get_bit_generator())


def seed_from_names(*names: str) -> None:
    """Seeds the global CPU generators like `seed_from`, from names such as those of files."""
    seed_from(*(zlib.crc32(name.encode("utf-8", "surrogateescape")) for name in names))


@contextmanager
def keep_generators() -> Iterator[None]:
    """Restores the global CPU generators after the block."""
    before = generator_states()
    try:
        yield
    finally:
        set_generator_states(before)
