"""Checks which modes and options of a run can be used together."""

from __future__ import annotations

from collections.abc import Sequence

from audiozen_core.diagnostics.run_options import CKPT_PATH, FINETUNE, RESUME, WEIGHTS
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import RunError
from audiozen_core.kinds import RUN_MODES, TRAINING, RunMode


def check_mode_names(modes: Sequence[str]) -> None:
    """Checks that each mode exists.

    Raises:
        RunError: a mode does not exist, or `modes` is a string instead of a list.
    """
    for mode in [modes] if isinstance(modes, str) else modes:
        if mode not in RUN_MODES:
            hint = did_you_mean(nearest(mode, RUN_MODES)) or f"the modes are {', '.join(RUN_MODES)}"
            raise RunError(f"unknown mode `{mode}`", remedy=hint)
    if isinstance(modes, str):
        raise RunError("`modes` is a string, but must be a list", remedy=f'write `modes=["{modes}"]`')


def check_run_options(
    modes: Sequence[RunMode], *, resume: bool, ckpt_path: str | None, weights: str | None = None
) -> None:
    """Checks that the modes and the options of a run do not contradict each other.

    Raises:
        RunError: the modes and the options contradict each other.
    """
    if not modes:
        raise RunError(
            "the experiment has no mode to run, because it was loaded without modes, only to use its networks",
            remedy='give the modes, such as `audiozen.load_experiment("exp.toml", modes=["test"])`',
        )
    training = [mode for mode in modes if mode in TRAINING]
    if weights is not None and training:
        raise RunError(
            f"{WEIGHTS} chooses the weights of a validation, test or prediction, but the modes include training",
            remedy="choose the weights for validation during training in the arguments of the hook, or run the test "
            "separately",
        )
    if resume and not training:
        raise RunError(
            "none of the modes is a training mode, so there is nothing to resume", remedy=f"leave {RESUME} out"
        )
    if training and not resume and modes[0] not in TRAINING:
        raise RunError(
            f"`{modes[0]}` comes before the training, so it has no checkpoint",
            remedy=f"put {training[0]} first, or continue a run with {RESUME}",
        )
    if len(training) > 1:
        raise RunError(
            "`train` and `finetune` are two runs, and can't share a run folder",
            remedy="use a separate TOML file for the finetuning; it may extend this file",
        )
    if "finetune" in modes and not resume and ckpt_path is None:
        raise RunError("finetuning starts from a checkpoint", remedy=f"give a checkpoint with {CKPT_PATH}")
    if ckpt_path is not None and not resume and training == ["train"]:
        raise RunError(
            "a new training does not start from a checkpoint",
            remedy=f"continue the run with {RESUME}, or start a new run from the weights with {FINETUNE}",
        )


def check_requeue_options(modes: Sequence[str], *, resume: bool, ckpt_path: str | None) -> None:
    """Checks the options of a run whose job is queued again after an interruption.

    Raises:
        RunError: the run would go back to the same checkpoint whenever the job is queued again.
    """
    # Finetuning starts from a path only if the run itself has not saved a checkpoint yet.
    goes_back = ckpt_path is not None and ("train" in modes or "/" not in ckpt_path)
    if resume and goes_back and any(mode in TRAINING for mode in modes):
        raise RunError(
            f"the job would go back to the checkpoint `{ckpt_path}` each time it is queued again",
            remedy="leave --ckpt-path out, so that the run continues from its latest checkpoint",
        )
