"""`audiozen checkpoints`: list, verify, prune and average the checkpoints of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from audiozen_core.cli.options import GivenPath, ListByDefault
from audiozen_core.cli.table import echo_table
from audiozen_core.errors import CheckpointError

if TYPE_CHECKING:
    from audiozen_core.checkpoint.info import CheckpointInfo
    from audiozen_core.checkpoint.store import CheckpointStore


@click.group(cls=ListByDefault, name="checkpoints")
def command() -> None:
    """List, verify, prune and average the checkpoints of a run.

    \b
    audiozen checkpoints exp/baseline
    audiozen checkpoints verify exp/baseline
    audiozen checkpoints prune exp/baseline --keep 3
    audiozen checkpoints average exp/baseline --last 5

    EXP is a run folder, or the TOML file of the run.
    """


_EXP = click.argument("exp", metavar="EXP", type=GivenPath(path_type=Path))


@command.command("list")
@_EXP
def list_command(exp: Path) -> None:
    """List the checkpoints with epoch, step, score, size, and whether they are intact, best or latest."""
    infos = _checkpoints_of(_store(exp))
    rows = [
        (
            info.path.name,
            "?" if info.epoch is None else str(info.epoch),
            "?" if info.step is None else str(info.step),
            "" if info.score is None else f"{info.score:.4g}",
            "?" if info.size is None else f"{info.size / 1e6:.1f}",
            _state(info),
        )
        for info in infos
    ]
    headings = ("checkpoint", "epoch", "step", "score", "MB", "state")
    echo_table(rows, headings=headings, right=("epoch", "step", "score", "MB"))


@command.command()
@_EXP
def verify_command(exp: Path) -> int:
    """Read every byte of every checkpoint. The exit code is 2 if a checkpoint is damaged."""
    infos = _checkpoints_of(_store(exp))
    for info in infos:
        click.echo(f"{info.path.name}: {'intact' if info.intact else info.reason}")
    damaged = sum(not info.intact for info in infos)
    click.echo(f"{len(infos) - damaged} intact, {damaged} damaged")
    return 2 if damaged else 0


@command.command()
@_EXP
@click.option("--keep", type=click.IntRange(min=1), required=True, help="How many to keep, including best and latest.")
@click.option("--damaged", is_flag=True, help="Also delete damaged checkpoints.")
def prune_command(exp: Path, keep: int, damaged: bool) -> None:
    """Delete all but the newest checkpoints, but never best or latest. The run must not be active."""
    from audiozen_core.experiment.lock import run_lock

    store = _store(exp)
    _checkpoints_of(store)
    with run_lock(store.folder.parent):
        deleted = store.prune(keep, damaged=damaged)
    for path in deleted:
        click.echo(f"deleted {path.name}")
    click.echo(f"{len(deleted)} deleted, {len(store.list(verify=False))} left")


@command.command()
@_EXP
@click.option(
    "--last", type=click.IntRange(min=1), required=True, help="How many of the newest checkpoints to average."
)
@click.option(
    "-o",
    "--output",
    type=GivenPath(path_type=Path),
    help="The folder to create, which must not exist yet. Default: `average_last_N` in the run folder.",
)
def average_command(exp: Path, last: int, output: Path | None) -> None:
    """Average the weights of the newest checkpoints into a new checkpoint, for use with `--ckpt-path`.

    The new checkpoint contains weights only. The modes test, validate, predict and finetune can use it, but a run can't
    resume from it.
    """
    from audiozen_core.checkpoint.errors import translate_disk_errors
    from audiozen_core.checkpoint.weights import write_average

    store = _store(exp)
    # Use only one checkpoint of each step, because the same weights may have been saved twice and must not count twice.
    # Use only managed checkpoints, because checkpoints with other names may belong to another run.
    newest: dict[int | None, CheckpointInfo] = {}
    for info in reversed(_checkpoints_of(store)):
        if info.intact and not info.stale and info.managed:
            newest.setdefault(info.step, info)
    chosen = list(newest.values())[:last][::-1]
    if len(chosen) < last:
        raise CheckpointError(
            f"{store.folder} has only {len(chosen)} intact checkpoints of different steps, not {last}",
            remedy=f"give --last {len(chosen)}, or train further" if chosen else "train further",
        )
    output = output or store.folder.parent / f"average_last_{last}"
    if output.exists() or output.is_symlink():
        raise CheckpointError(f"{output} already exists", remedy="delete it, or choose another folder with --output")
    paths = [info.path for info in chosen]
    with translate_disk_errors(f"{output} could not be written"):
        write_average(paths, output)
    click.echo(f"{output}: the mean of {', '.join(path.name for path in paths)}")


def _store(exp: Path) -> CheckpointStore:
    from audiozen_core.checkpoint.store import CheckpointStore

    if exp.suffix == ".toml" and exp.is_file():
        from audiozen_core.config.load import load_config

        config = load_config(exp, modes=()).config
        exp = Path(config.meta.save_dir).expanduser() / config.id
    folder = exp / "checkpoints"
    # Accept `exp/baseline/checkpoints` as well as `exp/baseline`, unless the path is the folder of a run called
    # `checkpoints`.
    if exp.name == "checkpoints" and not folder.is_dir():
        folder = exp
    if not folder.is_dir():
        raise CheckpointError(f"{folder} does not exist", remedy="pass a run folder, such as exp/baseline")
    return CheckpointStore(folder)


def _checkpoints_of(store: CheckpointStore) -> Sequence[CheckpointInfo]:
    infos = store.list()
    if not infos:
        raise CheckpointError(f"{store.folder} has no checkpoints", remedy="give a run that has saved a checkpoint")
    return infos


def _state(info: CheckpointInfo) -> str:
    words = ["intact" if info.intact else f"damaged: {info.reason}"]
    words += [word for word, true in (("best", info.best), ("latest", info.latest), ("stale", info.stale)) if true]
    return ", ".join(words)
