"""Resumes a run: compares its configuration with the configuration in the checkpoint, and restores the state."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch.optim.lr_scheduler import LRScheduler

from audiozen_core.checkpoint.format.checkpoint import current_versions
from audiozen_core.checkpoint.format.manifest import read_manifest, read_state
from audiozen_core.checkpoint.info import LoadedCheckpoint
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.config.checked import CheckedConfig
from audiozen_core.config.plugin_sections import section_table
from audiozen_core.errors import AudioZenError, CheckpointError
from audiozen_core.experiment.config_diff import Change, changed_hook, compare_configs, refuse_changes
from audiozen_core.experiment.regroup_state import regroup_state
from audiozen_core.kinds import KINDS, affects, kind_of, section_name, split_section
from audiozen_core.logging import get_logger
from audiozen_core.registry.paths import resolve
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.run_arguments import only_for_runs
from audiozen_core.trainer.scheduler import Scheduler

# The entries in the state of `ReduceLROnPlateau` that depend on earlier scores. All other entries are constructor
# arguments.
_PLATEAU_MEMORY = ("best", "num_bad_epochs", "cooldown_counter", "last_epoch", "_last_lr")


def restore(trainer: BaseTrainer, loaded: LoadedCheckpoint, checked: CheckedConfig, *, allow_drift: bool) -> None:
    """Restores the state of a checkpoint, if the settings that affect training are the same.

    Args:
        trainer: a trainer that was built from this run's TOML file.
        loaded: the checkpoint, with the configuration that it was saved with.
        checked: this run's configuration, with its components.
        allow_drift: whether to resume even if settings that affect training have changed. Optimisers, schedulers and
            losses then get the arguments in the TOML file. A scheduler is fast-forwarded to the current step. A
            component whose class has changed starts without state. If the parameter groups of an optimiser have
            changed, each parameter keeps its state.

    Raises:
        CheckpointError: settings that affect training have changed, or the state does not fit the components.
    """
    log = get_logger()
    changes = _changes(loaded.state.get("extra", {}), checked)
    if not allow_drift:
        refuse_changes(changes, trainer.folder)
    for change in changes:
        log.warning("the TOML file has changed", key=change.key, before=change.before, now=change.now)
    for name, now in current_versions().items():
        if (before := loaded.versions.get(name, "?")) != now:
            log.warning(
                f"the version of {name} has changed since the checkpoint was saved, so results may differ slightly",
                before=before,
                now=now,
            )
    trainer.load_checkpoint(adapt_state(loaded.state, changes, trainer) if changes else loaded.state)


def restore_for_evaluation(trainer: BaseTrainer, path: Path, checked: CheckedConfig | None) -> None:
    """Restores the states that a validation, test or prediction needs besides the weights, such as hook states.

    A warning lists settings that affect the outputs of the networks and have changed since the checkpoint was saved.

    Args:
        trainer: a trainer that already has the weights.
        path: the folder of a checkpoint, or a file of weights, which has no other states.
        checked: this run's configuration, with its components; None if it was taken from the checkpoint.

    Raises:
        CheckpointError: a registered state is not in the checkpoint, or does not fit the component.
    """
    state: dict[str, Any] = {}
    owners: set[str] = set()
    if path.is_dir():
        folder = path.resolve()
        owners = set(read_state(folder, read_manifest(folder)))
        wanted = {*trainer.state.evaluation_names(), "progress", "extra"} & owners
        loaded = CheckpointStore(path.parent).load(path, owners=wanted, map_location=trainer.state_device)
        state = loaded.state
        if "progress" in state:
            trainer.state.load({"progress": state.pop("progress")}, ["progress"])
        else:  # an average of several checkpoints
            trainer.progress.epoch, trainer.progress.step = loaded.epoch, loaded.step
        extra = state.pop("extra", {})
        trainer.hooks.distribute_extra(trainer, extra.get("hooks", {}))
        changes = _changes(extra, checked) if checked else []
        if changed := [str(change) for change in changes if _affects_output(change, trainer)]:
            get_logger().warning(
                "settings have changed since the checkpoint was saved, so the outputs of the networks may differ from "
                "those in training: change the settings back, unless you changed them on purpose",
                changed="; ".join(changed),
                checkpoint=str(path),
            )
        hooks = {f"hook_{changed_hook(change)}" for change in changes}
        missed = {f"hook_{changed_hook(change)}" for change in changes if _affects_output(change, trainer)}
        known = trainer.state.names() | (hooks - missed) | {"extra"}
        unused = sorted(name for name in owners - known if not _is_for_training(name))
        if checked and unused:
            get_logger().warning(
                "the checkpoint has states that this experiment does not use, so its results may differ from those of "
                "the run that saved the checkpoint",
                states=", ".join(unused),
                checkpoint=str(path),
            )
    trainer.state.load_for_evaluation(state, str(path), saved=owners - {"extra"})


def result_name(which: str, path: Path, checkpoints: Path) -> str:
    """Returns the name of a checkpoint for records and result folders.

    Args:
        which: what the user wrote: `best`, `latest`, the name of a checkpoint, or a path.
        path: the folder of the checkpoint, or a file of weights.
        checkpoints: the folder of this run's checkpoints.

    Example:
        >>> result_name("best", Path("exp/a/checkpoints/epoch_0012"), Path("exp/a/checkpoints"))
        'best_epoch_0012'
        >>> result_name("exp/b/checkpoints/best", Path("exp/b/checkpoints/epoch_0003"), Path("exp/a/checkpoints"))
        'b_best_epoch_0003'
    """
    real = path.resolve()
    alias = Path(which).name
    name = real.name if alias == real.name else f"{alias}_{real.name}"
    if real.parent == checkpoints.resolve():
        return name
    # Results of another run's weights must not look like results of this run.
    run = real.parent.parent if real.parent.name == checkpoints.name else real.parent
    return f"{run.name}_{name.removesuffix('.safetensors')}"


def adapt_state(state: Mapping[str, Any], changes: Sequence[Change], trainer: BaseTrainer) -> dict[str, Any]:
    """Puts the changed arguments of optimisers, schedulers and losses into the state of a checkpoint.

    An added hook keeps its initial state, and the state of a removed hook is dropped. The trainer must have been built
    from this run's TOML file. This function steps its schedulers.

    Raises:
        CheckpointError: with its new arguments, a scheduler ends before the current step of the run.
    """
    state = dict(state)
    changed: dict[str, set[str]] = {}
    for change in changes:
        section, _, rest = change.key.partition(".")
        changed.setdefault(section, set()).add(rest.removeprefix("args.").split(".")[0])
    for suffix in trainer.optimizers:
        _adapt_optimizer(state, changed, suffix, trainer)
    fresh = trainer.state.state_dict()
    for section in changed:
        kind = kind_of(section)
        if kind in (KINDS["loss_function"], KINDS["lr_scheduler"]) and section not in fresh:
            state.pop(section, None)
        elif section in fresh and (kind == KINDS["loss_function"] or section not in state):
            state[section] = fresh[section]
    for name in {f"hook_{name}" for name in map(changed_hook, changes) if name}:
        if name not in fresh:
            state.pop(name, None)
        elif name not in state:
            state[name] = fresh[name]
    return state


def find_component(section: str, path: str) -> object:
    """Finds the object that a path names, or the class of a section that a plugin defines.

    Returns None if the object can't be imported. All settings of such a component are assumed to affect training.
    """
    if split_section(section) is None:
        return section_table(section)
    try:
        return resolve(path, section=section).target
    except AudioZenError:
        return None


def _changes(extra: Mapping[str, Any], checked: CheckedConfig) -> list[Change]:
    """Returns the settings that have changed since a checkpoint was saved.

    Args:
        extra: the state `extra` of the checkpoint. An average of checkpoints has no configuration in `extra`, so no
            changes are found.
        checked: this run's configuration, with its components.
    """
    now = checked.config.text
    targets: dict[tuple[str, str], object] = {
        (found.component.section, found.component.path): found.target for found in checked.components.values()
    }
    targets |= {(name, ""): type(section) for name, section in checked.sections.items()}

    def find(section: str, path: str) -> object:
        if (section, path) not in targets:
            targets[section, path] = find_component(section, path)
        return targets[section, path]

    return compare_configs(extra.get("config", now), now, find)


def _is_for_training(state: str) -> bool:
    """Returns whether a state in a checkpoint belongs to an optimiser or a scheduler, which evaluations do not use."""
    return kind_of(state) in (KINDS["optimizer"], KINDS["lr_scheduler"])


def _affects_output(change: Change, trainer: BaseTrainer) -> bool:
    """Returns whether a changed setting affects the outputs of the networks in an evaluation."""
    if not change.affects_training or change.only_in_training:
        return False
    section, _, rest = change.key.partition(".")
    kind = kind_of(section)
    if kind == KINDS["trainer"] and rest.startswith("args."):
        return rest.split(".")[1] not in only_for_runs(type(trainer))
    if kind == KINDS["model"] and rest.partition(".")[0] in ("init", "compile"):
        return False
    is_plugins = split_section(section) is None
    return (affects(section, "outputs") and not is_plugins) or change.key == "meta.use_amp"


def _adapt_optimizer(state: dict[str, Any], changed: Mapping[str, set[str]], suffix: str, trainer: BaseTrainer) -> None:
    """Puts the changed arguments of one optimiser and its scheduler into their saved states."""
    section, scheduler_section = section_name("optimizer", suffix), section_name("lr_scheduler", suffix)
    optimizer_changes, scheduler_changes = changed.get(section, set()), changed.get(scheduler_section, set())
    if not optimizer_changes and not scheduler_changes:
        return
    # A scheduler of another class starts without state.
    saved = state.get(scheduler_section) if "path" not in scheduler_changes else None
    entry = trainer.lr_schedulers.get(suffix)
    forwarded = False
    if entry is not None and (saved is None or scheduler_changes or {"lr", "path", "groups"} & optimizer_changes):
        state[scheduler_section] = _adapt_scheduler(entry, saved, state["progress"], scheduler_changes)
        forwarded = isinstance(entry.scheduler, LRScheduler) and not entry.follows_score
    fresh = trainer.optimizers[suffix].state_dict()
    if section not in state or "path" in optimizer_changes:
        state[section] = fresh
        return
    if "groups" in optimizer_changes:
        state[section] = regroup_state(state[section], fresh, trainer, suffix)
        return
    groups = []
    for old, new in zip(state[section]["param_groups"], fresh["param_groups"], strict=False):
        if forwarded or (scheduler_changes and saved is None):
            # Fast-forwarding has set the right learning rate in the new group. If the scheduler was removed or
            # replaced, the old group still has the rate that the old scheduler set.
            taken = new
        else:
            taken = {name: new[name] for name in optimizer_changes if name in new}
        kept = {name: value for name, value in old.items() if name in new}
        groups.append({**kept, **taken, "params": old["params"]})
    state[section] = {**state[section], "param_groups": groups}


def _adapt_scheduler(
    entry: Scheduler, saved: Mapping[str, Any] | None, progress: Mapping[str, Any], changes: set[str]
) -> dict[str, Any]:
    """Returns the state that a scheduler has at the current step of the run with its new arguments.

    Stepping a torch scheduler also sets its optimiser's learning rate. `saved` is None if the checkpoint was
    saved without a scheduler, or with a scheduler of another class.

    Raises:
        CheckpointError: the scheduler ends before the current step.
    """
    scheduler = entry.scheduler
    if saved is None:
        return dict(scheduler.state_dict())
    if entry.follows_score:
        return {**scheduler.state_dict(), **{name: saved[name] for name in _PLATEAU_MEMORY if name in saved}}
    if not isinstance(scheduler, LRScheduler):
        fresh = scheduler.state_dict()
        return {**saved, **{name: fresh[name] for name in changes if name in fresh}}
    done = progress["step"] if entry.interval == "step" else progress["epoch"]
    taken = done if "interval" in changes else saved.get("last_epoch", done)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns that no optimiser has stepped
        for _ in range(taken):
            try:
                scheduler.step()
            except (ArithmeticError, ValueError) as error:
                raise CheckpointError(
                    f"{type(scheduler).__name__} has already taken {taken} steps, but with its new arguments it ends "
                    f"earlier: {error}",
                    remedy="set the scheduler's arguments so that it covers the whole training",
                ) from error
    return dict(scheduler.state_dict())
