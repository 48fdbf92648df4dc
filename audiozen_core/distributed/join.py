"""Connects the processes of a run."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist

from audiozen_core import __version__
from audiozen_core.distributed.environment import RankInfo, read_rank_info
from audiozen_core.distributed.ranks import ALONE, Ranks
from audiozen_core.distributed.settings import Distributed
from audiozen_core.errors import RunError


@contextmanager
def joined_ranks(settings: Distributed, device: str) -> Iterator[Ranks]:
    """Connects this process to the other processes of its run, and disconnects it after the block.

    In a run of one process, this does nothing.

    Args:
        settings: the section `[distributed]`.
        device: `device` of `[meta]`.

    Raises:
        RunError: there are more processes than GPUs, or the other processes can't be reached.

    If an error leaves the block, this process ignores SIGTERM from then on.
    """
    place = read_rank_info()
    if place.size == 1:
        yield ALONE
        return
    backend = "gloo"
    if device in ("auto", "cuda") and torch.cuda.is_available():
        _choose_gpu(place)
        backend = "cpu:gloo,cuda:nccl"
    elif device.startswith("cuda:"):
        raise RunError(
            f'`device = "{device}"` is one GPU, but the run has {place.size} processes',
            remedy='set `device = "auto"` in [meta]: each process then takes its own GPU',
        )
    try:
        dist.init_process_group(
            backend,
            init_method=f"tcp://{place.address}:{place.port}" if "TORCHELASTIC_RUN_ID" not in os.environ else "env://",
            rank=place.rank,
            world_size=place.size,
            timeout=timedelta(seconds=settings.timeout),
        )
    except (RuntimeError, ValueError) as error:
        raise RunError.caused_by(
            error,
            f"rank {place.rank} of {place.size} can't reach the other processes at {place.address}:{place.port}:",
            remedy="check that all of them have started, and that the port is free; GLOO_SOCKET_IFNAME names the "
            "network interface to use",
        ) from error
    try:
        ranks = Ranks(place.rank, place.size, place.local_rank, place.local_size)
        if backend != "gloo":
            _check_gpus(ranks)
        yield ranks
    except Exception:
        _ignore_end()
        raise
    finally:
        # The trainer holds objects that average gradients. If they outlive the group, their destructor destroys the
        # group while it holds the GIL. A thread of gloo may need the GIL to finish its last exchange, which would be a
        # deadlock.
        gc.collect()
        dist.destroy_process_group()


def compare_ranks(ranks: Ranks, config: str, options: Mapping[str, object]) -> None:
    """Checks that all ranks run the same experiment.

    Args:
        ranks: the processes of the run.
        config: the effective configuration of this rank, as TOML.
        options: other values that must be the same on all ranks, such as the modes, by name.

    Raises:
        RunError: the configuration, an option or a version is not the same on all ranks.
    """
    own = {
        "config": config,
        **{name: str(value) for name, value in options.items()},
        "audiozen": __version__,
        "torch": str(torch.__version__),
    }
    every = ranks.gather(own)
    for rank, other in enumerate(every):
        name = next((name for name in own if other[name] != every[0][name]), None)
        if name is not None:
            lines = zip(other[name].splitlines(), every[0][name].splitlines(), strict=False)
            first = next((f"{one} / {main}" for one, main in lines if one != main), "one is longer than the other")
            raise RunError(
                f"rank {rank} runs with {'other' if name.endswith('s') else 'another'} {name} than rank 0",
                notes=[f"first difference: {first}"],
                remedy="start all processes with the same command, file, environment variables and installation",
            )


def compare_data(ranks: Ranks, sizes: Mapping[str, int]) -> None:
    """Checks that the data sets of all ranks have the same numbers of samples.

    Args:
        ranks: the processes of the run.
        sizes: the number of samples of each data set on this rank, by its header.

    Raises:
        RunError: the data of a rank differ from the data of rank 0, for instance because a folder on its machine is
            incomplete.
    """
    every = ranks.gather(dict(sizes))
    for rank, other in enumerate(every):
        for header in every[0].keys() | other.keys():
            first, own = every[0].get(header), other.get(header)
            if first != own:
                raise RunError(
                    f"{header} has {own} samples on rank {rank}, and {first} on rank 0",
                    remedy="give all machines the same data, or a folder that they share",
                )


def _ignore_end() -> None:
    """Ignores SIGTERM, because this process is ending and still has to print its error.

    The launcher sends SIGTERM to all other processes as soon as one process has ended. The hook that handles the signal
    during training has already stopped.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _choose_gpu(place: RankInfo) -> None:
    """Selects the GPU with the local rank. If Slurm shows each process only its own GPU, selects the first GPU."""
    torch.cuda.set_device(place.local_rank if place.local_rank < torch.cuda.device_count() else 0)


def _check_gpus(ranks: Ranks) -> None:
    """Checks that no two processes share a GPU.

    Raises:
        RunError: two processes share a GPU.
    """
    device = torch.cuda.current_device()
    every = ranks.gather((socket.gethostname(), str(torch.cuda.get_device_properties(device).uuid)))
    for rank, gpu in enumerate(every):
        if (other := every.index(gpu)) != rank:
            count = torch.cuda.device_count()
            raise RunError(
                f"ranks {other} and {rank} share a GPU of {gpu[0]}, which has {count} for its processes",
                remedy=f"start at most {count} processes on it",
            )
