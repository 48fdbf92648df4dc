"""Adds a command to the error that stops a training on a NaN. The command repeats the step of that batch."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audiozen_core.checkpoint import CheckpointStore
from audiozen_core.experiment.trial import Trial
from audiozen_core.hooks.nonfinite import BatchLocation, NonFiniteError


@contextmanager
def naming_the_replay(folder: Path, store: CheckpointStore, trial: Trial | None, ranks: int) -> Iterator[None]:
    """Adds the command `audiozen replay` to the remedy of a `NonFiniteError` that is raised in the block.

    Args:
        folder: the folder of the run.
        store: the checkpoints of the run.
        trial: the trial; None if the run is not a trial. A trial with its own `folder` can't be replayed, because that
            folder is deleted afterwards.
        ranks: the number of processes. One process can't repeat a step of several processes, only show its batch.
    """
    try:
        yield
    except NonFiniteError as error:
        if trial is None or trial.folder is None:
            what = (
                "To see in which module the first NaN or infinity appears"
                if ranks == 1
                else "To hear and see the batch"
            )
            command = shlex.join(replay_command(folder, store, error.location, ranks))
            error.remedy = f"{error.remedy}. {what}:\n{command}"
        raise


def replay_command(folder: Path, store: CheckpointStore, location: BatchLocation, ranks: int) -> list[str]:
    """Returns the command that repeats the step of a batch. If the step has several batches, it names the last one."""
    command = ["audiozen", "replay", str(folder), "--epoch", str(location.epoch), "--batch", str(location.batches[-1])]
    if ranks > 1:
        return [*command, "--rank", str(location.rank)]
    command.append("--step")
    starts = [info for info in store.list(verify=False) if info.intact and info.managed and not info.stale]
    # Without a checkpoint in the epoch or at its start, the replay has to train for longer and needs `--catch-up`.
    near = any(info.epoch == location.epoch - 1 and (info.step or 0) < location.step for info in starts)
    return command if near else [*command, "--catch-up"]
