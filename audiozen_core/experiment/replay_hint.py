"""Adds an `audiozen replay` command to the error message if a loss or gradient that is not finite stops training."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.experiment.trial import Trial
from audiozen_core.hooks.nonfinite import BatchLocation, NonFiniteError


@contextmanager
def naming_the_replay(folder: Path, store: CheckpointStore, trial: Trial | None, ranks: int) -> Iterator[None]:
    """Adds the command `audiozen replay` to the remedy of a `NonFiniteError` that is raised in the block.

    Args:
        folder: the folder of the run.
        store: the checkpoints of the run.
        trial: the trial; None if the run is not a trial. A trial with its own `folder` can't be replayed, because this
            folder is deleted after the trial.
        ranks: the number of processes of the run. The replay has one process, so if there are several ranks, it can't
            repeat the step, and only shows the batch of one rank.
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
    """Returns the command that repeats a step, or, with several ranks, shows a batch of the step."""
    command = ["audiozen", "replay", str(folder), "--epoch", str(location.epoch), "--batch", str(location.batches[-1])]
    if ranks > 1:
        return [*command, "--rank", str(location.rank)]
    command.append("--step")
    starts = [info for info in store.list(verify=False) if info.intact and info.managed and not info.stale]
    # Without a checkpoint in this epoch or at its start, the replay has to train for longer, and needs `--catch-up`.
    near = any(info.epoch == location.epoch - 1 and (info.step or 0) < location.step for info in starts)
    return command if near else [*command, "--catch-up"]
