"""Runs a function in several processes that are the ranks of one run, as `torchrun` would start them."""

from __future__ import annotations

import gc
import importlib
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from audiozen_core.testing.tiny import TinyExperiment

# The children are copies of the test process, in which torch is imported already. `torchrun` takes seconds for that.
_CONTEXT = multiprocessing.get_context("fork")


@cache
def warm_up() -> None:
    """Imports what a run needs, and reads what it keeps in caches, once instead of in each rank."""
    importlib.import_module("torch._dynamo")
    importlib.import_module("torch.distributed.fsdp")
    with TemporaryDirectory() as folder:
        TinyExperiment(Path(folder)).set("trainer", max_epochs=1).run()


def free_port() -> int:
    """Returns a port that nothing uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Failed(Exception):
    """What a rank raised, as text, because a process can't send exceptions of any kind."""


def on_ranks(size: int, function: Callable[[int], Any]) -> list[Any]:
    """Calls `function(rank)` in a process for each rank.

    Returns:
        What each rank returned, in order; a `Failed` for a rank that raised an error, or was killed.
    """
    warm_up()
    port = free_port()
    pipes = [_CONTEXT.Pipe(duplex=False) for _ in range(size)]
    children = [_CONTEXT.Process(target=_child, args=(rank, size, port, function, pipes)) for rank in range(size)]
    for child in children:
        child.start()
    results = []
    for (receiver, sender), child in zip(pipes, children, strict=True):
        sender.close()
        try:
            results.append(receiver.recv())
            child.join()
        except EOFError:
            child.join()
            results.append(Failed("the process was killed", f"its exit code is {child.exitcode}"))
    return results


def _child(rank: int, size: int, port: int, function: Callable[[int], Any], pipes: list[Any]) -> None:
    gc.freeze()  # a collection that looks through the objects of the test process copies their memory
    for other, (receiver, sender) in enumerate(pipes):
        receiver.close()
        if other != rank:
            sender.close()
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    try:
        result = function(rank)
    except BaseException as error:
        result = Failed(f"{type(error).__name__}: {error}", traceback.format_exc())
    pipes[rank][1].send(result)
    # The test process has fixtures whose clean-up belongs to it alone.
    os._exit(0)


def all_right(results: list[Any]) -> list[Any]:
    """Returns the results if no rank has failed; otherwise the test fails with the traceback of the first."""
    for rank, result in enumerate(results):
        assert not isinstance(result, Failed), f"rank {rank}: {result.args[1]}"
    return results
