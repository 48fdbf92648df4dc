"""Torch's elastic agent, extended by a log line. The agent starts and watches the processes of one machine."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.launcher import api

from audiozen_core.distributed.restarts import is_stopped
from audiozen_core.logging import get_logger


class Agent(LocalElasticAgent):
    """Torch's agent. Before it restarts the processes after a failure, it logs which process failed."""

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        # A run that a signal has stopped also looks like a failure, but is not started again.
        if result.is_failed() and self._remaining_restarts > 0 and not is_stopped():
            rank, _, how_ended = first_failure(result.failures)
            most = worker_group.spec.max_restarts
            get_logger().warning(
                "a process of the run has failed, so all processes are restarted",
                rank=rank,
                ended_with=how_ended,
                restart=f"{most - self._remaining_restarts + 1} of {most}",
            )
        return result


def first_failure(failures: Mapping[int, ProcessFailure]) -> tuple[int, int, str]:
    """Returns the rank that failed first, its exit code as in a shell, and a text that says how it ended."""
    rank = min(failures, key=lambda rank: failures[rank].timestamp)
    code = failures[rank].exitcode
    if code >= 0:
        return rank, code, f"exit code {code}"
    return rank, 128 - code, signal.Signals(-code).name


@contextmanager
def announced_restarts() -> Iterator[None]:
    """Replaces torch's agent by `Agent` within the block, because torch has no argument for the class."""
    module: Any = api
    module.LocalElasticAgent = Agent
    try:
        yield
    finally:
        module.LocalElasticAgent = LocalElasticAgent
