"""Going on with a run: what its TOML says now against what it said, and the state that comes of both."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from audiozen_core.checkpoint import LoadedCheckpoint
from audiozen_core.checkpoint.format.checkpoint import current_versions
from audiozen_core.errors import CheckpointError
from audiozen_core.experiment.config_diff import Change, drift, refuse_drift
from audiozen_core.kinds import section_name
from audiozen_core.logging import get_logger
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.scheduler import Scheduler

# What `ReduceLROnPlateau` remembers, as opposed to what its arguments say.
_OF_A_PLATEAU = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")


def restore(trainer: BaseTrainer, loaded: LoadedCheckpoint, config_text: str, *, allow_drift: bool) -> None:
    """Gives a trainer the state of a checkpoint, as far as the TOML has not changed.

    Args:
        trainer: as it was built from the TOML of now.
        loaded: the checkpoint; it holds the TOML that it was made with.
        config_text: the TOML of now.
        allow_drift: go on although it has changed in what matters. The arguments of optimisers, schedulers and losses
            are then those of now: a scheduler is brought to the place where the training is; one that is another class
            starts anew.

    Raises:
        CheckpointError: the TOML has changed in what matters, or the state does not fit.
    """
    log = get_logger()
    changes = drift(loaded.state.get("extra", {}).get("config", config_text), config_text)
    if not allow_drift:
        refuse_drift(changes, trainer.folder)
    for change in changes:
        log.warning("the TOML has changed", key=change.key, before=change.before, now=change.now)
    for name, now in current_versions().items():
        if (before := loaded.versions.get(name, "?")) != now:
            log.warning(f"{name} has changed, so the last bits may differ", before=before, now=now)
    trainer.load_checkpoint(adapted(loaded.state, changes, trainer) if changes else loaded.state)


def adapted(state: Mapping[str, Any], changes: Sequence[Change], trainer: BaseTrainer) -> dict[str, Any]:
    """The state of a checkpoint with the changed arguments of optimisers, schedulers and losses in it.

    Args:
        state: owner to state.
        changes: of the TOML.
        trainer: as it was built from the TOML of now; its schedulers are moved.
    """
    state = dict(state)
    changed: dict[str, dict[str, Change]] = {}
    for change in changes:
        section, _, rest = change.key.partition(".")
        changed.setdefault(section, {})[rest.removeprefix("args.").split(".")[0]] = change
    for suffix in trainer.optimizers:
        _adapt(state, changed, suffix, trainer)
    fresh = trainer.state.state_dict()
    for section in changed:
        if section.startswith(("loss_function", "lr_scheduler")) and section not in fresh:
            state.pop(section, None)
        elif section in fresh and (section.startswith("loss_function") or section not in state):
            state[section] = fresh[section]
    return state


def _adapt(
    state: dict[str, Any], changed: Mapping[str, Mapping[str, Change]], suffix: str, trainer: BaseTrainer
) -> None:
    """Puts the changed arguments of one optimiser and its scheduler into their saved states."""
    section, of_scheduler = section_name("optimizer", suffix), section_name("lr_scheduler", suffix)
    own, theirs = changed.get(section, {}), changed.get(of_scheduler, {})
    if not own and not theirs:
        return
    saved = state.get(of_scheduler) if "path" not in theirs else None
    entry = trainer.lr_schedulers.get(suffix)
    moves = entry is not None and (saved is None or bool(theirs) or bool({"lr", "path"} & own.keys()))
    if entry is not None and moves:
        state[of_scheduler] = _brought_on(entry, saved, state["progress"], theirs)
    fresh = trainer.optimizers[suffix].state_dict()
    if section not in state or "path" in own:
        state[section] = fresh
        return
    follows = entry is not None and moves and isinstance(entry.scheduler, LRScheduler) and not entry.follows_score
    groups = []
    for old, new in zip(state[section]["param_groups"], fresh["param_groups"], strict=False):
        # What a scheduler has been brought on with is in the group of now, and what is of no scheduler any more is not.
        taken = new if follows or theirs else {name: new[name] for name in own if name in new}
        group = {**{name: value for name, value in old.items() if name in new}, **taken, "params": old["params"]}
        if entry is not None and not follows and saved is not None:
            group["lr"] = _lowered_as_much(old["lr"], new["lr"], own.get("lr"))
        groups.append(group)
    state[section] = {**state[section], "param_groups": groups}


def _brought_on(
    entry: Scheduler, saved: Mapping[str, Any] | None, progress: Mapping[str, Any], changed: Mapping[str, Change]
) -> dict[str, Any]:
    """A scheduler of now, at the place where the one of then was; its optimiser's rate goes with it.

    Args:
        entry: the scheduler.
        saved: the state of the one of then; None if it was another class, or none.
        progress: the state of the trainer's progress.
        changed: the arguments that have changed.

    Raises:
        CheckpointError: it does not reach that far.
    """
    scheduler = entry.scheduler
    if saved is None:
        return dict(scheduler.state_dict())
    if entry.follows_score:
        return {**scheduler.state_dict(), **{name: saved[name] for name in _OF_A_PLATEAU if name in saved}}
    if not isinstance(scheduler, LRScheduler):
        return {**saved, **{name: scheduler.state_dict()[name] for name in changed if name in scheduler.state_dict()}}
    done = progress["step"] if entry.interval == "step" else progress["epoch"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no optimiser has stepped
        for _ in range(done if "interval" in changed else saved.get("last_epoch", done)):
            try:
                scheduler.step()
            except (ArithmeticError, ValueError) as error:
                raise CheckpointError(
                    f"{type(scheduler).__name__} with the arguments of now does not reach step {done}: {error}",
                    remedy="its arguments must fit the length of the training",
                ) from error
    return dict(scheduler.state_dict())


def _lowered_as_much(old: float, new: float, change: Change | None) -> float:
    """The rate of then, or as much less than the one of now as it was less than what the TOML said then."""
    if change is None:
        return old
    try:
        return new * (old / float(change.before))
    except (ValueError, ZeroDivisionError):
        return new
