"""The sections and arguments that have been renamed or removed, or that have an alias."""

from __future__ import annotations

import re
from typing import Any

from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.diagnostics.suggestions import nearest

# Maps old names to current names. A section keeps its suffix: `loss_d` becomes `loss_function_d`.
RENAMED_SECTIONS = {"loss": "loss_function", "validation_dataset": "validate_dataset"}
RENAMED_ARGUMENTS: dict[KeyPath, str] = {
    ("trainer", "args", "max_epoch"): "max_epochs",
    ("trainer", "args", "max_grad_norm"): "clip_grad_norm_value",
    ("trainer", "args", "max_patience"): "patience",
    ("meta", "exp_id"): "id",
}
# Settings of the first AudioZEN version that have no counterpart. They are dropped with a warning that contains the
# advice. If the tuple lists values, a setting is dropped only if it has one of these values, because other values would
# have an effect.
OLD_SETTINGS: dict[KeyPath, tuple[str, tuple[Any, ...]]] = {
    ("meta", "description"): ("write it as a comment", ()),
    ("meta", "config_path"): ("leave it out: AudioZEN knows the file", ()),
    ("meta", "ckpt_path"): ("give the checkpoint on the command line, with `--ckpt-path`", ()),
    ("trainer", "args", "max_steps"): ("leave it out: without it, the number of steps has no limit", (0,)),
    ("trainer", "args", "clip_grad_norm_value"): ("leave it out: without it, gradients are not clipped", (0, -1)),
}
# Arguments that only the trainer of the first AudioZEN version had, in the form of `OLD_SETTINGS`. An argument is
# dropped only if the trainer of the experiment does not have it.
OLD_TRAINER_ARGUMENTS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "debug": ("leave it out: a loss that is not finite is always reported", (False,)),
    "plot_lr": ("leave it out: the hooks record the learning rate", (True, False)),
    "scheduler_name": ("write a section [lr_scheduler]", ("constant_schedule_with_warmup",)),
    "warmup_steps": ("write a section [lr_scheduler]", (0,)),
    "warmup_ratio": ("write a section [lr_scheduler]", (0,)),
}
# Maps aliases to the names that AudioZEN uses. An alias does not cause a warning.
SECTION_ALIASES = {"train_dataset": "dataset"}

_SUFFIXED_LOSS = re.compile(r"loss_(?P<suffix>.+)")


def current_name(parent: KeyPath, key: str) -> str:
    """Returns the current name of a key. `parent` is the key path of the key's table, in current names.

    Example:
        >>> current_name((), "loss"), current_name((), "loss_d"), current_name(("trainer", "args"), "max_epoch")
        ('loss_function', 'loss_function_d', 'max_epochs')
        >>> current_name(("meta",), "loss")
        'loss'
    """
    if parent:
        return RENAMED_ARGUMENTS.get((*parent, key), key)
    match = _SUFFIXED_LOSS.fullmatch(key)
    # `loss_functoin` is a misspelt `loss_function`, not the loss of a model with the suffix `functoin`.
    if match and not key.startswith("loss_function") and not nearest(key, ["loss_function"]):
        return f"loss_function_{match['suffix']}"
    return RENAMED_SECTIONS.get(key) or SECTION_ALIASES.get(key, key)


def is_old_value(value: object, values: tuple[Any, ...]) -> bool:
    """Returns whether an old setting has one of the values; True if `values` is empty. Here False differs from 0."""
    return not values or any(value == old and isinstance(value, bool) == isinstance(old, bool) for old in values)


def current_path(key_path: KeyPath) -> KeyPath:
    """Returns the key path with each old name replaced by the current name."""
    current: KeyPath = ()
    for part in key_path:
        current = (*current, current_name(current, part) if isinstance(part, str) else part)
    return current
