"""`audiozen run`."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import click

from audiozen_core.cli.findings import show_findings
from audiozen_core.cli.options import FILE, MODES, OVERRIDES, TRACEBACK, WITHOUT, SeveralModes


@click.command(cls=SeveralModes, name="run")
@FILE
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
    "with (default: best). PATH is a checkpoint's folder or a .safetensors file of weights.",
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
@TRACEBACK
def command(
    file: Path,
    modes: tuple[str, ...],
    resume: bool,
    ckpt_path: str | None,
    allow_drift: bool,
    overrides: tuple[str, ...],
    log_level: str,
) -> None:
    """Check a TOML file, then run the experiment that it describes.

    \b
    audiozen run exp.toml -M train test
    audiozen run exp.toml --resume
    audiozen run exp.toml -M test --ckpt-path best
    audiozen run new.toml -M finetune --ckpt-path exp/old/checkpoints/best

    All output goes to <meta.save_dir>/<name of the file>: the log, metrics.jsonl, checkpoints/, tb_log/, and the
    results of tests and predictions, such as test/best_epoch_0012/0/.
    """
    _ignore_usr1_until_training()
    # These modules import torch, which takes seconds. They are imported here, after SIGUSR1 is ignored.
    from audiozen_core import logging
    from audiozen_core.experiment.experiment import Experiment

    logging.configure(level=log_level)
    experiment = Experiment.load(file, overrides=overrides, modes=modes)  # type: ignore[arg-type]
    show_findings(experiment.warnings)
    experiment.run(resume=resume, ckpt_path=ckpt_path, allow_drift=allow_drift)


def _ignore_usr1_until_training() -> None:
    """Ignores SIGUSR1, the request for a checkpoint. It would kill the process until the trainer handles it."""
    usr1 = getattr(signal, "SIGUSR1", None)
    in_main_thread = threading.current_thread() is threading.main_thread()
    if usr1 is not None and in_main_thread and signal.getsignal(usr1) == signal.SIG_DFL:
        signal.signal(usr1, signal.SIG_IGN)
