"""A launcher does not wait for ever for the place where machines meet."""

import gc
import signal
import socket
import socketserver
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.rendezvous import RendezvousParameters

from audiozen_core.distributed.meeting import BACKEND, _connect
from audiozen_core.distributed.restarts import note_stop, notes_begin, take_stop
from audiozen_core.errors import RunError


@pytest.fixture(autouse=True)
def no_meeting_point_is_left():
    """Frees what a test has made: a later test forks this process, and torch's store can't be freed in a child."""
    yield
    gc.collect()


@contextmanager
def meeting():
    """The meeting point of a run of one machine, as its launcher has it."""
    with notes_begin():
        handler = _connect(parameters(0, is_host=True, last_call_timeout=1))
        try:
            yield handler
        finally:
            handler.shutdown()  # otherwise a thread goes on to say that this machine is there


def parameters(port, **settings):
    return RendezvousParameters(BACKEND, f"127.0.0.1:{port}", "run", 1, 1, "127.0.0.1", **settings)


def test_program_that_is_no_launcher_is_reported():
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(RunError, match=f"what listens at 127.0.0.1:{port} does not answer as the launcher"):
            _connect(parameters(port, is_host=False, join_timeout=1))
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_program_that_answers_otherwise_is_reported():
    class Stranger(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        with pytest.raises(RunError, match=f"what listens at 127.0.0.1:{port} does not answer as the launcher"):
            _connect(parameters(port, is_host=False, join_timeout=1))
        server.shutdown()


@pytest.mark.slow
def test_run_that_a_signal_to_a_process_has_stopped_is_not_started_again():
    with meeting() as handler:
        handler.next_rendezvous()
        handler.next_rendezvous()  # a restart after a failure
        note_stop(signal.SIGTERM)
        with pytest.raises(SignalException) as raised:
            handler.next_rendezvous()
        assert raised.value.sigval == signal.SIGTERM
        handler.next_rendezvous()  # the note counts once


@pytest.mark.slow
def test_processes_that_were_stopped_because_a_machine_waits_are_started_again(monkeypatch):
    with meeting() as handler:
        handler.next_rendezvous()
        note_stop(signal.SIGTERM)
        monkeypatch.setattr(handler, "num_nodes_waiting", lambda: 1)
        handler.next_rendezvous()
        assert take_stop() is None


def test_connection_ends_if_the_other_end_is_silent():
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        pytest.skip("needs Linux")
    found = []
    handler = _connect(parameters(0, is_host=True))
    for name in range(3, 256):
        try:
            connection = socket.socket(fileno=socket.dup(name))
        except OSError:
            continue
        with connection:
            if connection.family in (socket.AF_INET, socket.AF_INET6):  # earlier tests may have left others
                found.append(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT))
    assert handler.get_backend() == BACKEND
    assert 60_000 in found
