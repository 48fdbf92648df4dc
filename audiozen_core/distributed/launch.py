"""Starts the processes of a run with torch's elastic agent, the engine of `torchrun`."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError, RendezvousError, RendezvousStateError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from audiozen_core.distributed.agent import announced_restarts, first_failure
from audiozen_core.distributed.cpus import usable_cpus
from audiozen_core.distributed.meeting import BACKEND, register_backend
from audiozen_core.distributed.restarts import notes_begin, take_stop
from audiozen_core.errors import RunError
from audiozen_core.logging import get_logger

_INTERFACE_ADDRESS = 0x8915  # SIOCGIFADDR


@dataclass(frozen=True, slots=True)
class Launch:
    """The number of processes to start, and where the machines meet.

    Attributes:
        processes: the number of processes on this machine.
        least_machines: the number of machines that the run waits for.
        most_machines: the number of machines that may take part.
        host: the machine where all machines meet; "" for a run on this machine alone.
        port: a free port on that machine.
        restarts: how often all processes may be restarted after a failure.
        wait: how many seconds to wait for the other machines.
        grace: how many seconds processes have to save and end after a signal.
    """

    processes: int
    least_machines: int = 1
    most_machines: int = 1
    host: str = ""
    port: int = 0
    restarts: int = 0
    wait: float = 300.0
    grace: int = 600


def processes_of(text: str) -> int:
    """Returns the number of processes for `--nproc-per-node`; `auto` means one for each GPU, or without GPUs, each CPU.

    Raises:
        RunError: the text is neither a positive number nor `auto`.
    """
    if text == "auto":
        return torch.cuda.device_count() or usable_cpus()
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise RunError(f"`--nproc-per-node {text}` is not a number of processes", remedy="give a number from 1, or `auto`")


def machines_of(text: str) -> tuple[int, int]:
    """Returns the minimum and the maximum number of machines for `--nnodes`, such as `2` or `2:4`.

    Raises:
        RunError: the text is neither a number nor a range.
    """
    least, _, most = text.partition(":")
    if least.isdecimal() and (most or least).isdecimal() and 0 < int(least) <= int(most or least):
        return int(least), int(most or least)
    raise RunError(f"`--nnodes {text}` is not a number of machines", remedy="give a number, or a range such as `2:4`")


def endpoint_of(text: str) -> tuple[str, int]:
    """Returns the host and the port of `--rdzv-endpoint HOST:PORT`.

    Raises:
        RunError: the port is missing, or the host is not known.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise RunError(f"`--rdzv-endpoint {text}` is not a machine and a port", remedy="write it as HOST:PORT")
    try:
        return socket.gethostbyname(host), int(port)
    except OSError as error:
        raise RunError(f"the host `{host}` of `--rdzv-endpoint` is not known: {error}", remedy="check it") from error


def launch(arguments: Sequence[str], how: Launch) -> int:
    """Runs `audiozen` with these arguments in several processes, and waits for them.

    Returns:
        The exit code: 0, or the exit code of the process that failed first.

    Raises:
        RunError: the processes can't be started, or the other machines can't be reached.
    """
    endpoint, local = "127.0.0.1:0", "127.0.0.1"
    settings: dict[str, object] = {"is_host": True}
    if how.host:
        is_host = _is_here(how.host)
        if is_host:
            _check_free(how.host, how.port)
        else:
            _wait_for(how)
        endpoint, local = f"{how.host}:{how.port}", _address_towards(how.host)
        settings = {"is_host": is_host, "join_timeout": how.wait, "last_call_timeout": 5}
        _use_interface_of(local)
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cpus() // how.processes)))
    os.environ["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] = str(how.grace)
    # Without this setting, the machine of rank 0 announces the meeting point of the processes only once, so a machine
    # that joins later never learns it.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    # The agent would repeat the errors of the processes in long log messages.
    for name in logging.root.manager.loggerDict:
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    # Under nohup SIGHUP is ignored, because the run must outlive its terminal. The agent would handle SIGHUP
    # regardless.
    signals = ["SIGTERM", "SIGQUIT"]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        signals.append("SIGHUP")
    config = LaunchConfig(
        min_nodes=how.least_machines,
        max_nodes=how.most_machines,
        nproc_per_node=how.processes,
        run_id=f"audiozen-{how.port}" if how.host else f"audiozen-{os.getpid()}",
        rdzv_backend=BACKEND,
        rdzv_endpoint=endpoint,
        rdzv_configs=settings,
        local_addr=local,
        max_restarts=how.restarts,
        logs_specs=DefaultLogsSpecs(),
        signals_to_handle=",".join(signals),
    )
    register_backend()
    command = ["-m", "audiozen", *arguments]
    with notes_begin(), announced_restarts(), _handled_signals():
        return _wait_for_processes(config, command, endpoint)


def _wait_for_processes(config: LaunchConfig, command: Sequence[str], endpoint: str) -> int:
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        if stopped := take_stop():
            return 128 + stopped
        rank, code, how_ended = first_failure(error.failures)
        get_logger().error(
            "a process of the run has failed, so all processes have ended", rank=rank, ended_with=how_ended
        )
        return code
    except SignalException as stop:
        return 128 + int(stop.sigval)
    except (RendezvousConnectionError, RendezvousStateError, DistError) as error:
        raise RunError.caused_by(
            error,
            f"the connection to the other machines, which meet at {endpoint}, is lost:",
            remedy="check that machine and the network; `--resume` continues the run",
        ) from error
    except (RendezvousError, TimeoutError) as error:
        raise RunError.caused_by(
            error, "the machines of the run can't meet:", remedy="start the same command on each of them"
        ) from error
    return 0


def _is_here(host: str) -> bool:
    """Returns whether an address belongs to this machine: a socket can be bound only to such an address."""
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def _check_free(host: str, port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise RunError(
                f"the port {port} of `--rdzv-endpoint` can't be used: {error.strerror}", remedy="choose another port"
            ) from error


def _wait_for(how: Launch) -> None:
    """Waits until the meeting point can be reached."""
    log, end, logged = get_logger(), time.monotonic() + how.wait, False
    while True:
        try:
            socket.create_connection((how.host, how.port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise RunError(
                    f"the meeting point {how.host}:{how.port} can't be reached: {error}",
                    remedy="start the run on that machine too, and check that a firewall does not close the port",
                ) from error
            if not logged:
                log.info("waiting for the meeting point", host=how.host, port=how.port, reason=str(error))
            logged = True
            time.sleep(1)


def _address_towards(host: str) -> str:
    """Returns the address of this machine in the network of the host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 1))  # sends nothing
        return str(probe.getsockname()[0])


def _use_interface_of(address: str) -> None:
    """Lets gloo and NCCL use the network interface with this address, unless the user has chosen one."""
    for _, name in socket.if_nameindex():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            packed = fcntl.ioctl(probe, _INTERFACE_ADDRESS, struct.pack("256s", name.encode()[:15]))
            if socket.inet_ntoa(packed[20:24]) == address:
                os.environ.setdefault("GLOO_SOCKET_IFNAME", name)
                os.environ.setdefault("NCCL_SOCKET_IFNAME", name)
                return


@contextmanager
def _handled_signals() -> Iterator[None]:
    """Handles the signals that the agent does not handle in the way we need.

    With the agent's own handler, a second Ctrl-C would only interrupt the agent while it waits for the processes to
    save.
    """
    stops = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal stops
        if stops:
            _pass_on(number, frame)
            return
        stops = True
        raise SignalException("Ctrl-C", signal.SIGINT)

    handlers = {signal.SIGINT: interrupt}
    if hasattr(signal, "SIGUSR1"):
        handlers[signal.SIGUSR1] = _pass_on
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_on(number: int, frame: FrameType | None) -> None:
    """Passes a signal on to the processes. The agent itself passes on only signals that end a run."""
    for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        for child in path.read_text().split():
            with contextlib.suppress(OSError):
                os.kill(int(child), number)
