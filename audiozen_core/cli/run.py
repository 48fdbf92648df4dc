"""`audiozen run`."""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
from contextlib import ExitStack
from pathlib import Path

import click

from audiozen_core.cli.findings import show_findings
from audiozen_core.cli.options import MODES, OVERRIDES, TRACEBACK, WITHOUT, GivenPath, SeveralModes
from audiozen_core.distributed.environment import read_rank_info
from audiozen_core.experiment.run_options import check_requeue_options


@click.command(cls=SeveralModes, name="run")
@click.argument("files", metavar="EXP.toml...", type=GivenPath(path_type=Path), nargs=-1, required=True)
@MODES
@click.option(
    "-R",
    "--resume",
    is_flag=True,
    help="Continue the run from its latest checkpoint, or start it if it has no checkpoint yet.",
)
@click.option(
    "--ckpt-path",
    metavar="best|latest|PATH",
    help="The checkpoint to resume from (default: latest), to finetune (no default), or to validate, test or predict "
    "with (default: best). PATH is the folder of a checkpoint, or a .safetensors file with weights.",
)
@click.option(
    "--weights",
    metavar="NAME",
    help="The weights to validate, test or predict with: raw, or weights that a hook offers, such as ema.",
)
@click.option(
    "--fast-dev-run",
    is_flag=True,
    help="Only test that everything works: process one batch in each mode, call all hooks, and save a checkpoint. "
    "Nothing is kept.",
)
@click.option(
    "--overfit-batches",
    metavar="N",
    type=click.IntRange(min=1),
    help="Only test whether the model can learn: train on the first N batches over and over. The output goes to "
    "<id>_overfit.",
)
@click.option(
    "--preview",
    metavar="N",
    type=click.IntRange(min=1),
    help="Only show the training data: audio, spectrograms and statistics of the first N samples go to <id>_preview.",
)
@click.option(
    "--seeds",
    metavar="N",
    type=click.IntRange(min=1),
    help="Run N times, with the seed of the file and the seeds after it, and print mean and standard deviation. Runs "
    "that were stopped are continued.",
)
@click.option("--allow-drift", is_flag=True, help="Resume even if settings that affect training have changed.")
@OVERRIDES
@WITHOUT
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Show log lines of this level and above.",
)
@click.option(
    "--nproc-per-node",
    metavar="N|auto",
    help="Start N processes on this machine, or one for each GPU (auto). Each process loads its own batches.",
)
@click.option("--nnodes", metavar="N|MIN:MAX", help="The number of machines. Start the same command on each machine.")
@click.option(
    "--rdzv-endpoint",
    metavar="HOST:PORT",
    help="The address through which the machines connect: one of the machines, and a free port.",
)
@click.option(
    "--rdzv-timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    default=300.0,
    help="How long to wait for the other machines.",
)
@click.option(
    "--max-restarts",
    metavar="N",
    type=click.IntRange(min=0),
    default=0,
    help="Restart from the checkpoint after a failure, up to N times.",
)
@click.option(
    "--launcher",
    type=click.Choice(["slurm"]),
    help="Submit the run to a cluster, with the settings in [launcher] of the TOML file. Change a setting with --set "
    "launcher.time=4:00:00. Several TOML files become one job array.",
)
@click.option("--follow", is_flag=True, help="With --launcher: print the output of the job until it ends.")
@click.option(
    "--requeue",
    is_flag=True,
    help="In a Slurm job: if SIGTERM stops the run, queue the job again to continue the run. --launcher sets this.",
)
@TRACEBACK
def command(
    files: tuple[Path, ...],
    modes: tuple[str, ...],
    resume: bool,
    ckpt_path: str | None,
    weights: str | None,
    fast_dev_run: bool,
    overfit_batches: int | None,
    preview: int | None,
    seeds: int | None,
    allow_drift: bool,
    overrides: tuple[str, ...],
    log_level: str,
    nproc_per_node: str | None,
    nnodes: str | None,
    rdzv_endpoint: str | None,
    rdzv_timeout: float,
    max_restarts: int,
    launcher: str | None,
    follow: bool,
    requeue: bool,
) -> int:
    """Check a TOML file, then run the experiment that it describes.

    \b
    audiozen run exp.toml -M train test
    audiozen run exp.toml --resume
    audiozen run exp.toml -M test --ckpt-path best
    audiozen run new.toml -M finetune --ckpt-path exp/old/checkpoints/best
    audiozen run exp.toml -M train test --fast-dev-run
    audiozen run exp.toml --overfit-batches 2
    audiozen run exp.toml --preview 20
    audiozen run exp.toml -M train test --seeds 3
    audiozen run exp.toml --nproc-per-node auto
    audiozen run exp.toml --launcher slurm --follow

    All output goes to <meta.save_dir>/<name of the file>: the log, metrics.jsonl, checkpoints/, tb_log/, and the
    results of tests and predictions, such as test/best_epoch_0012/0/.
    """
    _ignore_usr1_until_training()
    launch_options = [nproc_per_node, nnodes, rdzv_endpoint, max_restarts]
    is_trial = fast_dev_run or overfit_batches is not None
    if is_trial:
        _check_trial(
            modes,
            is_fast=fast_dev_run,
            overfits=overfit_batches is not None,
            others=bool(launcher or requeue or resume or ckpt_path),
        )
    if preview is not None:
        others = (is_trial, seeds, launcher, requeue, resume, ckpt_path, weights, *launch_options)
        return _preview(files, preview, overrides, *others)
    if launcher:
        from audiozen_core.cli.submission import submit_runs

        _check_submission(processes=any(launch_options), others=bool(seeds or requeue))
        options = {"--resume": resume, "--ckpt-path": ckpt_path, "--allow-drift": allow_drift, "--log-level": log_level}
        options["--weights"] = weights
        return submit_runs(files, modes, overrides, options, resume=resume, ckpt_path=ckpt_path, follows=follow)
    if len(files) > 1 or follow:
        raise click.UsageError("several TOML files or --follow need --launcher slurm")
    (file,) = files
    place = read_rank_info()
    launches = any(launch_options) and not place.launched
    if seeds is not None:
        contradicts = bool(launches or place.size > 1 or is_trial or requeue or resume or weights)
        return _run_seeds(
            file, seeds, modes, overrides, ckpt_path, log_level, allow_drift=allow_drift, contradicts=contradicts
        )
    if fast_dev_run and (launches or place.size > 1):
        raise click.UsageError("--fast-dev-run needs a single process")
    if launches or place.size > 1:
        # Otherwise torch prints a warning about the search for unused parameters in each process, and a warning for
        # each connection whose host name can't be resolved.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    if launches:
        _check(file, modes, overrides, resume=resume, ckpt_path=ckpt_path, weights=weights)
        processes = nproc_per_node or ("auto" if nnodes else "1")
        return _launch(processes, nnodes or "1", rdzv_endpoint, rdzv_timeout, max_restarts)
    restarts = 0
    with ExitStack() as stack:
        if requeue:
            from audiozen_core.launcher.requeue import queued_again_when_stopped, times_queued_again

            check_requeue_options(modes, resume=resume, ckpt_path=ckpt_path)
            restarts = times_queued_again()
            stack.enter_context(queued_again_when_stopped(place.rank))
        # These modules import torch, which takes seconds, so they are imported only after the signal handlers are set.
        from audiozen_core import logging
        from audiozen_core.experiment.experiment import Experiment
        from audiozen_core.experiment.trial import Trial

        trial = Trial(overfit_batches) if overfit_batches else None
        if fast_dev_run:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="audiozen-"))
            trial = Trial(1, Path(folder) / file.stem)
            overrides = (*overrides, "+trainer.args.max_epochs=1", "+trainer.args.steps_per_epoch=1")
        # Ranks other than 0 write everything to their own log files, but show only errors on the screen.
        logging.configure(level=log_level if place.rank == 0 else "error")
        experiment = Experiment.load(file, overrides=overrides, modes=modes, trial=trial)  # type: ignore[arg-type]
        if place.rank == 0:
            show_findings(experiment.warnings)
        # If the job was queued again, training resumes, but an evaluation starts from the beginning.
        continues = resume or (restarts > 0 and experiment.trains)
        experiment.run(resume=continues, ckpt_path=ckpt_path, allow_drift=allow_drift, weights=weights)
        if fast_dev_run:
            click.echo(f"One batch of each mode ({', '.join(modes)}) has gone through. Nothing was kept.")
    return 0


def _check_trial(modes: tuple[str, ...], *, is_fast: bool, overfits: bool, others: bool) -> None:
    if others or (is_fast and overfits):
        raise click.UsageError(
            "--fast-dev-run and --overfit-batches can't be combined with each other, --launcher, --requeue, --resume "
            "or --ckpt-path"
        )
    if is_fast and modes[0] != "train":
        raise click.UsageError("--fast-dev-run has no checkpoint to start from, so its first mode must be train")


def _preview(files: tuple[Path, ...], count: int, overrides: tuple[str, ...], *others: object) -> int:
    """Shows the first samples of the training data, in the order in which a single process would train on them."""
    if any(others) or len(files) > 1:
        raise click.UsageError("--preview takes one TOML file, and no other options besides --set")
    from audiozen_core import logging
    from audiozen_core.cli.replay import show_preview
    from audiozen_core.experiment.experiment import Experiment

    logging.configure(level="warning")
    experiment = Experiment.load(files[0], overrides=overrides)
    show_findings(experiment.warnings)
    show_preview(experiment, count)
    return 0


def _check_submission(*, processes: bool, others: bool) -> None:
    if processes:
        raise click.UsageError("with --launcher, set the number of processes and machines in [launcher]")
    if others:
        raise click.UsageError(
            "--launcher can't be combined with --seeds or --requeue: it always queues stopped jobs again, and needs a "
            "TOML file for each seed"
        )


def _run_seeds(
    file: Path,
    count: int,
    modes: tuple[str, ...],
    overrides: tuple[str, ...],
    ckpt_path: str | None,
    log_level: str,
    *,
    allow_drift: bool,
    contradicts: bool,
) -> int:
    """Runs the experiment with several seeds, and prints how much the results vary."""
    if contradicts:
        raise click.UsageError(
            "--seeds can't be combined with --resume, --weights, --requeue, --fast-dev-run, --overfit-batches or "
            "several processes: it starts one run after another, and always resumes"
        )
    from audiozen_core import logging
    from audiozen_core.cli.table import echo_table
    from audiozen_core.experiment.seeds import run_seeds

    logging.configure(level=log_level)
    results = run_seeds(
        file,
        count,
        overrides=overrides,
        modes=modes,  # type: ignore[arg-type]
        ckpt_path=ckpt_path,
        allow_drift=allow_drift,
    )
    rows = []
    for name, values in results.scalars.items():
        mean, deviation = results.mean_and_deviation(values)
        rows.append((name, f"{mean:.4g}", f"{deviation:.2g}", *(f"{value:.4g}" for value in values)))
    headings = ("scalar", "mean", "std", *(f"seed {seed}" for seed in results.seeds))
    echo_table(rows, headings=headings, right=headings[1:])
    click.echo(f"\nalso in {results.file}")
    return 0


def _check(
    file: Path,
    modes: tuple[str, ...],
    overrides: tuple[str, ...],
    *,
    resume: bool,
    ckpt_path: str | None,
    weights: str | None,
) -> None:
    """Reports errors in the file and the options, before starting processes or waiting for other machines.

    Otherwise each process would report the same errors, and would report them again after each restart.
    """
    from audiozen_core.experiment.experiment import Experiment
    from audiozen_core.experiment.run_options import check_run_options

    check_run_options(modes, resume=resume, ckpt_path=ckpt_path, weights=weights)  # type: ignore[arg-type]
    Experiment.load(file, overrides=overrides, modes=modes)  # type: ignore[arg-type]


def _launch(processes: str, machines: str, endpoint: str | None, wait: float, restarts: int) -> int:
    """Starts this command in several processes, and returns the exit code."""
    from audiozen_core import logging
    from audiozen_core.distributed.launch import Launch, endpoint_of, launch, machines_of, processes_of

    logging.configure()
    least, most = machines_of(machines)
    if most > 1 and endpoint is None:
        raise click.UsageError("several machines need an address to connect through: --rdzv-endpoint HOST:PORT")
    host, port = endpoint_of(endpoint) if endpoint else ("", 0)
    how = Launch(processes_of(processes), least, most, host, port, restarts, wait)
    return launch(sys.argv[1:], how)


def _ignore_usr1_until_training() -> None:
    """Ignores SIGUSR1, the request for a checkpoint, until the trainer handles it. It would kill the process."""
    usr1 = getattr(signal, "SIGUSR1", None)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if usr1 is not None and in_main_thread and signal.getsignal(usr1) == signal.SIG_DFL:
        signal.signal(usr1, signal.SIG_IGN)
