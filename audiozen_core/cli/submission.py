"""Submits runs to a cluster: `audiozen run --launcher slurm`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import click

from audiozen_core.cli.findings import show_findings
from audiozen_core.errors import RunError
from audiozen_core.experiment.run_options import check_requeue_options, check_run_options
from audiozen_core.launcher.follow import follow
from audiozen_core.launcher.submit import submit


def submit_runs(
    files: Sequence[Path],
    modes: Sequence[str],
    overrides: Sequence[str],
    options: Mapping[str, str | bool | None],
    *,
    resume: bool,
    ckpt_path: str | None,
    follows: bool,
) -> int:
    """Checks TOML files, and submits one run for each file. Several files become one job array.

    Args:
        files: the TOML files.
        modes: the modes of each run.
        overrides: the values of `--set`.
        options: all other options of `audiozen run`, by name.
        resume: whether to resume the runs.
        ckpt_path: the checkpoint to start from.
        follows: whether to print the output of the jobs until they end.

    Returns:
        0; with `follows`, the exit code of the first job that failed, or 0 if no job failed.

    Raises:
        AudioZenError: a file has errors, or Slurm refuses the job. No job has been submitted.
    """
    # Find the errors that would end the run at its start. Now is better than after hours in the queue.
    from audiozen_core import logging
    from audiozen_core.experiment.experiment import Experiment

    logging.configure()
    check_run_options(modes, resume=resume, ckpt_path=ckpt_path)  # type: ignore[arg-type]
    check_requeue_options(modes, resume=resume, ckpt_path=ckpt_path)
    experiments = []
    for file in files:
        experiment = Experiment.load(file, overrides=overrides, modes=modes)  # type: ignore[arg-type]
        show_findings(experiment.warnings)
        if experiment.trains and not resume:
            experiment.starts.check_no_run()
        experiment.starts.of_mode(experiment.modes[0], ckpt_path, resume=resume)
        experiments.append(experiment)
    first = experiments[0]
    for number, other in enumerate(experiments):
        if other.config.launcher != first.config.launcher:
            raise RunError(
                f"`{files[number]}` and `{files[0]}` have different settings in [launcher]",
                remedy="submit the files one by one, or let both extend a common file with [launcher]",
            )
        if other.folder in [earlier.folder for earlier in experiments[:number]]:
            raise RunError(
                f"`{files[number]}` would write to the same folder as another file: `{other.folder}`",
                remedy="give each file its own name or `id`",
            )
    common = ["-M", *modes, *(argument for change in overrides for argument in ("--set", change)), "--requeue"]
    for name, value in options.items():
        common += [name] if value is True else [name, str(value)] if value else []
    common += ["--traceback"] if "--traceback" in sys.argv else []
    name = first.config.id if len(files) == 1 else f"{first.config.id}+{len(files) - 1}"
    jobs = submit(
        [["run", str(file), *common] for file in files],
        name,
        Path(first.config.meta.save_dir).expanduser().absolute() / "slurm",
        first.config.launcher,
    )
    for job, experiment in zip(jobs, experiments, strict=True):
        click.echo(f"job {job.job_id}: {experiment.folder}")
        click.echo(f"  output: {job.paths.stdout}")
        click.echo(f"  cancel: scancel {job.job_id}")
    if len(jobs) > 1:
        click.echo(f"cancel all: scancel {jobs[0].job_id.partition('_')[0]}")
    if not follows:
        click.echo(f"show the output: tail -F {shlex.quote(str(jobs[0].paths.stdout))}")
        return 0
    try:
        return follow({job.job_id: job.paths.stdout for job in jobs})
    except KeyboardInterrupt:
        click.echo("stopped following the output; the job continues", err=True)
        raise
