"""Prepares the process of a run: its seeds, threads, determinism and device; and refuses `sys.exit`."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from audiozen_core.config.sections import AUTO, Meta
from audiozen_core.errors import BuildError, RunError


def prepare_process(meta: Meta) -> torch.device:
    """Sets seeds, threads and determinism for the whole process, and returns the device."""
    seed_generators(meta.seed)
    # Denormal numbers make a CPU many times slower, and results do not need this precision.
    torch.set_flush_denormal(True)
    if meta.num_threads is not None:
        # With `auto`, torch uses one thread until a number is chosen.
        torch.set_num_threads(1 if meta.num_threads == AUTO else meta.num_threads)
    if meta.use_deterministic_algorithms:
        # cuBLAS is deterministic only with this variable, which it reads when CUDA starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    set_deterministic(meta.use_deterministic_algorithms)
    torch.backends.cudnn.deterministic = meta.use_deterministic_algorithms
    name = device_name(meta)
    device = torch.device(name)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BuildError(
            f'`device = "{name}"` can\'t be used here: {str(error).splitlines()[0]}',
            remedy="use `auto`: the GPU if there is one, else the CPU",
        ) from error
    return device


def device_name(meta: Meta) -> str:
    """Returns the name of the device: with `auto`, the GPU if the machine has one, otherwise the CPU."""
    return meta.device if meta.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"


def set_deterministic(enabled: bool) -> None:
    """Makes torch use only deterministic algorithms, and raise an error if it lacks one; or allows all algorithms."""
    # To set the mode, torch loads its compiler, even if the mode does not change. Loading is slow, and takes memory.
    if torch.get_deterministic_debug_mode() != (2 if enabled else 0):
        torch.use_deterministic_algorithms(enabled)


def seed_of_rank(seed: int, rank: int) -> int:
    """Returns the seed for the random numbers of a rank in training, for dropout for example.

    The training samples depend only on the seed of the run. The seeds of neighbouring ranks differ by a prime that is
    larger than the seeds that people choose, so two different ranks of two runs do not get the same seed.
    """
    return seed + rank * 1_000_000_007


def seed_generators(seed: int) -> None:
    """Seeds the global random generators of Python, NumPy and torch, including the generators of all GPUs."""
    # rich draws a random number when it is imported. If it were imported after seeding, the random numbers of the run
    # would change.
    import rich.style  # noqa: F401

    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@contextmanager
def no_exit() -> Iterator[None]:
    """Converts `sys.exit` in a component to an error. Otherwise the run would end early and look successful."""
    try:
        yield
    except SystemExit as stop:
        message = f"a component called sys.exit({stop.code!r}), which ended the run:"
        raise RunError.caused_by(stop, message, remedy="raise an error instead") from stop
