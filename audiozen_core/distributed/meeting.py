"""The connection of a launcher to the place where the machines of a run meet.

It is that of torch's backend `c10d`, except that it does not wait for ever. Torch leaves it to the other machine to say
that an answer takes too long, and so blocks, also against its own timeouts, if a cable is pulled or the machine is off.
"""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousParameters, rendezvous_handler_registry
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import create_backend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import create_handler

BACKEND = "audiozen"
_SILENT_SECONDS = 60  # torch's timeout for an answer


def register_backend() -> None:
    """Makes the backend known to torch's agent."""
    rendezvous_handler_registry.register(BACKEND, _connect)


def _connect(parameters: RendezvousParameters) -> RendezvousHandler:
    backend, store = create_backend(parameters)
    _limit_silence()
    return create_handler(store, backend, parameters)


def _limit_silence() -> None:
    """Lets the kernel end each TCP connection of this process whose other end has been silent for too long."""
    if not hasattr(socket, "TCP_USER_TIMEOUT"):  # only Linux has it
        return
    for entry in Path("/proc/self/fd").iterdir():
        # Setting an option of something else, such as a file or a listening socket, is an error or has no effect.
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(entry.name))) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SILENT_SECONDS * 1000)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _SILENT_SECONDS // 4)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _SILENT_SECONDS // 4)
