"""The connection of a launcher to the place where the machines of a run meet.

It is that of torch's backend `c10d`, except that it does not wait for ever. Torch leaves it to the other end to say
that an answer takes too long. So it blocks, also against its own timeouts, if a cable is pulled, if the other machine
is off, or if another program listens at that port.
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
    """The backend of torch under another name, because one name can't have two meanings."""

    @property
    def name(self) -> str:
        return BACKEND


def register_backend() -> None:
    """Makes the backend known to torch's agent."""
    rendezvous_handler_registry.register(BACKEND, _connect)


def _connect(parameters: RendezvousParameters) -> RendezvousHandler:
    """Connects this launcher with the meeting point, which the launcher on that machine is.

    Raises:
        RunError: nothing there answers as a launcher does.
    """
    patience = min(_SILENT_SECONDS, float(parameters.get("join_timeout", _SILENT_SECONDS)))
    parameters.config["read_timeout"] = math.ceil(patience)  # for so long torch tries to connect
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
    """Returns `next_rendezvous` of a handler, but it ends a run that a signal to one of the processes has stopped.

    Otherwise the agent would start all of them again. It also stops them itself, if machines wait to take part.
    """
    meet = handler.next_rendezvous

    def next_rendezvous() -> RendezvousInfo:
        stop = take_stop()
        if stop is not None and not handler.num_nodes_waiting():
            raise SignalException("a signal to one of the processes has stopped the run", signal.Signals(stop))
        return meet()

    return next_rendezvous


def _limit_silence() -> None:
    """Lets the kernel end each connection whose other end has been silent for too long."""
    if not hasattr(socket, "TCP_USER_TIMEOUT"):  # only Linux has it
        return
    for connection in _connections():
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_SECONDS * 1000)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENT_SECONDS // 4)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _SILENT_SECONDS // 4)


def _end_connections(done: threading.Event, patience: float) -> None:
    """Ends the connections that nothing has answered on; torch tries some more times until its own timeout."""
    while not done.wait(patience):
        for connection in _connections():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                connection.shutdown(socket.SHUT_RDWR)
        patience = 1


def _connections() -> Iterator[socket.socket]:
    """Yields the TCP connections of this process; the objects are closed afterwards, the connections are not."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        number = int(entry.name)
        # An error: the descriptor has been closed meanwhile, or belongs to a socket that only listens.
        with contextlib.suppress(OSError):
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            with socket.socket(fileno=os.dup(number)) as connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6) and connection.getpeername():
                    yield connection
