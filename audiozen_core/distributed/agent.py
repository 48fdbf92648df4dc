"""Torch's elastic agent, which starts the processes of one machine and watches them, says when it starts them again."""

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
    """The agent of torch. Before it starts the processes again after a failure, it says which one has failed."""

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        # A run that a signal has stopped looks like a failure here, but it is not started again.
        if result.is_failed() and self._remaining_restarts > 0 and not is_stopped():
            rank, _, how_ended = first_failure(result.failures)
            most = worker_group.spec.max_restarts
            get_logger().warning(
                "a process of the run has failed, so all are started again",
                rank=rank,
                ended_with=how_ended,
                restart=f"{most - self._remaining_restarts + 1} of {most}",
            )
        return result


def first_failure(failures: Mapping[int, ProcessFailure]) -> tuple[int, int, str]:
    """Returns the rank that failed first, its exit code as a shell gives it, and in words how it ended."""
    rank = min(failures, key=lambda rank: failures[rank].timestamp)
    code = failures[rank].exitcode
    if code >= 0:
        return rank, code, f"exit code {code}"
    return rank, 128 - code, signal.Signals(-code).name


@contextmanager
def restarts_are_told() -> Iterator[None]:
    """Lets torch use this agent within the block. It has no argument for the class of its agent."""
    module: Any = api
    module.LocalElasticAgent = Agent
    try:
        yield
    finally:
        module.LocalElasticAgent = LocalElasticAgent
