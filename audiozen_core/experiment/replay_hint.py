"""The command that makes the batch of an error again: the error that stops a training on a NaN ends with it."""

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
    """Adds the command `audiozen replay` to the remedy of a NaN that ends the training in the block.

    Args:
        folder: the folder of the run.
        store: its checkpoints.
        trial: the trial that the run is, if it is one. One in a folder that is deleted can't be replayed.
        ranks: the number of processes. The step of several can't be made again by one process.
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
    """Returns the command that makes the step of a batch again; of several batches of a step, that of the last."""
    command = ["audiozen", "replay", str(folder), "--epoch", str(location.epoch), "--batch", str(location.batches[-1])]
    if ranks > 1:
        return [*command, "--rank", str(location.rank)]
    command.append("--step")
    starts = [info for info in store.list(verify=False) if info.intact and info.managed and not info.stale]
    # Without a checkpoint in the epoch, or at its start, the replay has to train for longer, so it asks.
    near = any(info.epoch == location.epoch - 1 and (info.step or 0) < location.step for info in starts)
    return command if near else [*command, "--catch-up"]
