"""Going on with a run: what its TOML says now against what it said, and the state that comes of both."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from audiozen_core.checkpoint import LoadedCheckpoint
from audiozen_core.checkpoint.drift import Change, drift, refuse_drift
from audiozen_core.checkpoint.folder import current_versions
from audiozen_core.trainer.base_trainer import BaseTrainer
from audiozen_core.trainer.nonfinite import section_name

Tell = Callable[..., None]
"""Is given a level, what is to be told, and facts by name."""

# What a scheduler counts, as opposed to what its arguments say.
_COUNTED = (
    "last_epoch", "_step_count", "_last_lr", "_is_initial", "best", "num_bad_epochs", "cooldown_counter", "T_cur",
    "T_i",
)  # fmt: skip


def restore(trainer: BaseTrainer, loaded: LoadedCheckpoint, config_text: str, *, allow_drift: bool, tell: Tell) -> None:
    """Gives a trainer the state of a checkpoint, as far as the TOML has not changed.

    Args:
        trainer: as it was built from the TOML of now.
        loaded: the checkpoint; it holds the TOML that it was made with.
        config_text: the TOML of now.
        allow_drift: go on although it has changed in what matters. The arguments of optimisers, schedulers and losses
            are then those of now; one that is another class starts anew.
        tell: what has changed is told here.

    Raises:
        CheckpointError: the TOML has changed in what matters, or the state does not fit.
    """
    changes = drift(loaded.state.get("extra", {}).get("config", config_text), config_text)
    if not allow_drift:
        refuse_drift(changes, trainer.folder)
    for change in changes:
        tell("warning", "the TOML has changed", key=change.key, before=change.before, now=change.now)
    for name, now in current_versions().items():
        if (before := loaded.versions.get(name, "?")) != now:
            tell("warning", f"{name} has changed, so the last bits may differ", before=before, now=now)
    trainer.load_checkpoint(adapted(loaded.state, changes, trainer) if changes else loaded.state)


def adapted(state: Mapping[str, Any], changes: Sequence[Change], trainer: BaseTrainer) -> dict[str, Any]:
    """The state of a checkpoint with the changed arguments of optimisers, schedulers and losses in it."""
    state = dict(state)
    changed: dict[str, set[str]] = {}
    for change in changes:
        section, _, rest = change.key.partition(".")
        changed.setdefault(section, set()).add(rest.removeprefix("args.").split(".")[0])
    fresh = trainer.state.state_dict()
    for section, names in changed.items():
        if not section.startswith(("optimizer", "lr_scheduler", "loss_function")):
            continue
        if section not in fresh:
            state.pop(section, None)
        elif section not in state or "path" in names or section.startswith("loss_function"):
            state[section] = fresh[section]
    for suffix in trainer.optimizers:
        _adapt(state, fresh, changed, suffix, trainer)
    return state


def _adapt(
    state: dict[str, Any], fresh: Mapping[str, Any], changed: Mapping[str, set[str]], suffix: str, trainer: BaseTrainer
) -> None:
    """Puts the changed arguments of one optimiser and its scheduler into their saved states."""
    optimizer, scheduler = section_name("optimizer", suffix), section_name("lr_scheduler", suffix)
    own, of_scheduler = changed.get(optimizer, set()), changed.get(scheduler, set())
    if optimizer in state and "path" not in own and (own or of_scheduler):
        plain = set(trainer.optimizers[suffix].defaults) | {"params"}
        groups = [
            _group(old, new, own, plain if of_scheduler else set(new))
            for old, new in zip(state[optimizer]["param_groups"], fresh[optimizer]["param_groups"], strict=False)
        ]
        state[optimizer] = {**state[optimizer], "param_groups": groups}
    if scheduler in state and scheduler in fresh and "path" not in of_scheduler and (of_scheduler or "lr" in own):
        in_torch = type(trainer.lr_schedulers[suffix].scheduler).__module__.startswith("torch.")
        state[scheduler] = _scheduler(state[scheduler], fresh[scheduler], None if in_torch else of_scheduler)


def _group(old: dict[str, Any], new: dict[str, Any], names: set[str], plain: set[str]) -> dict[str, Any]:
    """A group of parameters with the arguments `names` of now, and with what is not plain: that is a scheduler's."""
    group = {**old, **{name: new[name] for name in new if name in names or name not in plain}}
    group["lr"] = old["lr"]
    if "lr" in names:
        # A scheduler has brought the rate from where it began to where it is: the new one is brought as far.
        begin, began = new.get("initial_lr", new["lr"]), old.get("initial_lr", 0)
        group["lr"] = old["lr"] * (begin / began) if began else new["lr"]
        if "initial_lr" in new:
            group["initial_lr"] = begin
    return group


def _scheduler(old: Mapping[str, Any], new: Mapping[str, Any], names: set[str] | None) -> dict[str, Any]:
    """A scheduler's state with the arguments of now; one that is not torch's (`names`) tells not what it counts."""
    if names is not None:
        return {**old, **{name: new[name] for name in names if name in new}}
    merged = {**new, **{name: old[name] for name in _COUNTED if name in old}}
    inner = "_schedulers"
    if inner in new and len(new[inner]) == len(old.get(inner, ())):
        merged[inner] = [_scheduler(*pair, None) for pair in zip(old[inner], new[inner], strict=True)]
    return merged
