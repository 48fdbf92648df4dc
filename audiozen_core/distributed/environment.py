"""Reads from the environment whether a run has several processes. This module does not import torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from audiozen_core.errors import RunError

# Ports below 1024 are reserved for the system, and ports from 32768 on are used for outgoing connections.
_FIRST_PORT, _PORTS = 20_000, 10_000


@dataclass(frozen=True, slots=True)
class RankInfo:
    """The place of a process among all processes of its run.

    Attributes:
        rank: the number of the process, from 0.
        size: the number of processes.
        local_rank: the number of the process among the processes on its machine, from 0.
        local_size: the number of processes on its machine.
        address: the machine of rank 0.
        port: the port on which rank 0 waits for the other ranks.
        launched: whether an agent (`audiozen run --nproc-per-node` or `torchrun`) has started the process.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1
    address: str = ""
    port: int = 0
    launched: bool = False


def read_rank_info(environ: Mapping[str, str] = os.environ) -> RankInfo:
    """Returns the place of this process as set by `torchrun` or `srun`, or the place of a single process.

    Raises:
        RunError: the environment contradicts itself.
    """
    if "RANK" in environ and "WORLD_SIZE" in environ:
        return _of_torchrun(environ)
    # `srun` starts a step with several tasks. A script that `sbatch` starts is a single process, but has most of these
    # variables too.
    if "SLURM_STEP_ID" in environ and int(environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return _of_srun(environ)
    return RankInfo()


def _of_torchrun(environ: Mapping[str, str]) -> RankInfo:
    rank, size = _number(environ, "RANK"), _number(environ, "WORLD_SIZE")
    if not 0 <= rank < size:
        raise RunError(f"RANK is {rank}, but WORLD_SIZE is {size}", remedy="start the processes with `torchrun`")
    launched = "TORCHELASTIC_RUN_ID" in environ
    if size == 1:
        return RankInfo(launched=launched)
    if lacking := [name for name in ("MASTER_ADDR", "MASTER_PORT") if not environ.get(name)]:
        raise RunError(
            f"WORLD_SIZE is {size}, but {' and '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not set",
            remedy="start the processes with `torchrun`, or set the address and a free port of the machine of rank 0",
        )
    return RankInfo(
        rank,
        size,
        _number(environ, "LOCAL_RANK", rank),
        _number(environ, "LOCAL_WORLD_SIZE", size),
        environ["MASTER_ADDR"],
        _number(environ, "MASTER_PORT"),
        launched,
    )


def _of_srun(environ: Mapping[str, str]) -> RankInfo:
    size = _number(environ, "SLURM_STEP_NUM_TASKS")
    nodes = environ.get("SLURM_STEP_NODELIST", environ.get("SLURM_JOB_NODELIST", ""))
    job, step = _number(environ, "SLURM_JOB_ID", 0), _number(environ, "SLURM_STEP_ID", 0)
    tasks = environ.get("SLURM_STEP_TASKS_PER_NODE", "1").split(",")[0].split("(")[0]
    return RankInfo(
        _number(environ, "SLURM_PROCID"),
        size,
        _number(environ, "SLURM_LOCALID"),
        int(tasks),
        environ.get("MASTER_ADDR") or _first_host(nodes),
        # All tasks of a step compute the same port. Other steps on the machine most likely get another port.
        _number(environ, "MASTER_PORT", _FIRST_PORT + (job * 31 + step) % _PORTS),
    )


def _first_host(nodes: str) -> str:
    """Returns the first host of a list in Slurm's syntax, such as `n1` for `n[1-4]`."""
    import socket
    import subprocess

    try:
        found = subprocess.run(["scontrol", "show", "hostnames", nodes], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise RunError(
            f"the machine of rank 0 is not known, because `scontrol show hostnames {nodes}` failed",
            remedy="set MASTER_ADDR to the first machine of the job",
        ) from error
    host = found.stdout.split()[0]
    try:
        socket.gethostbyname(host)
    except OSError as error:
        # Torch would try to resolve the name until the rendezvous times out.
        raise RunError(
            f"the machine of rank 0 is called `{host}` by Slurm, but this name has no address: {error}",
            remedy="set MASTER_ADDR to the address of the first machine of the job",
        ) from error
    return host


def _number(environ: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environ.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise RunError(
            f"the environment variable {name} is {text!r}, not a number", remedy="start the processes with `torchrun`"
        ) from None
