"""The connection of a launcher to the place where the machines of a run meet.

This is torch's backend `c10d`, except that it does not wait forever. Torch relies on the other end to report that an
answer takes too long. So torch blocks, despite its own timeouts, if a cable is pulled, if the other machine is off, or
if another program listens on the port.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    rendezvous_handler_registry,
)
from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend, create_backend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import create_handler

from audiozen_core.distributed.restarts import take_stop
from audiozen_core.errors import RunError

BACKEND = "audiozen"
_SILENT_SECONDS = 60  # torch's timeout for an answer


class _Backend(C10dRendezvousBackend):
    """Torch's backend under another name, because the name `c10d` is already registered."""

    @property
    def name(self) -> str:
        return BACKEND


def register_backend() -> None:
    """Registers the backend with torch's agent."""
    rendezvous_handler_registry.register(BACKEND, _connect)


def _connect(parameters: RendezvousParameters) -> RendezvousHandler:
    """Connects this launcher to the meeting point, which is the launcher on the machine of the endpoint.

    Raises:
        RunError: no launcher answers at the meeting point.
    """
    patience = min(_SILENT_SECONDS, float(parameters.get("join_timeout", _SILENT_SECONDS)))
    parameters.config["read_timeout"] = math.ceil(patience)  # how long torch tries to connect
    done = threading.Event()
    threading.Thread(target=_end_connections, args=(done, patience), daemon=True).start()
    try:
        _, store = create_backend(parameters)
    except RendezvousConnectionError as error:
        raise RunError.caused_by(
            error.__cause__ or error,
            f"what listens at {parameters.endpoint} does not answer as the launcher of a run:",
            remedy="start the run on that machine too, and choose a port that no other program uses",
        ) from error
    finally:
        done.set()
    store.set_timeout(timedelta(seconds=_SILENT_SECONDS))
    _limit_silence()
    handler = create_handler(store, _Backend(store, parameters.run_id), parameters)
    handler.next_rendezvous = _unless_stopped(handler)  # type: ignore[method-assign]
    return handler


def _unless_stopped(handler: RendezvousHandler) -> Callable[[], RendezvousInfo]:
    """Returns `next_rendezvous` of a handler, changed so that it ends the run if a signal has stopped a process.

    Otherwise the agent would start all processes again. If machines are waiting to join, the agent has stopped the
    processes itself, and the run continues.
    """
    meet = handler.next_rendezvous

    def next_rendezvous() -> RendezvousInfo:
        stop = take_stop()
        if stop is not None and not handler.num_nodes_waiting():
            raise SignalException("a signal to one of the processes has stopped the run", signal.Signals(stop))
        return meet()

    return next_rendezvous


def _limit_silence() -> None:
    """Lets the kernel end connections whose other end has been silent for too long."""
    if not hasattr(socket, "TCP_USER_TIMEOUT"):  # only Linux has this option
        return
    for connection in _connections():
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_SECONDS * 1000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENT_SECONDS // 4)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _SILENT_SECONDS // 4)


def _end_connections(done: threading.Event, patience: float) -> None:
    """Ends connections without an answer. Torch then tries again until its own timeout."""
    while not done.wait(patience):
        for connection in _connections():
            with contextlib.suppress(OSError):  # the connection has ended meanwhile
                connection.shutdown(socket.SHUT_RDWR)
        patience = 1


def _connections() -> Iterator[socket.socket]:
    """Yields the TCP connections of this process as duplicates, so that closing the objects keeps the connections."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        number = int(entry.name)
        # An error means that the descriptor has been closed in the meantime, or belongs to a listening socket.
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getpeername():
                    yield connection
