"""Checks whether the components work together, and whether the trainer has the methods that the modes need."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from audiozen_core.binding.arguments import loaded_class
from audiozen_core.binding.self_attributes import attributes_used, keys_used
from audiozen_core.config.checked import CheckedComponent
from audiozen_core.config.sections import Component, SchedulerComponent
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Finding
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.diagnostics.listed import listed
from audiozen_core.kinds import KINDS, section_name

# The attributes of a trainer. `self.model` is the model without a suffix, and `self.models` contains all models by
# suffix.
_ATTRIBUTES = {"model": "models", "loss_function": "loss_functions", "optimizer": "optimizers"}
_ATTRIBUTES |= {"lr_scheduler": "lr_schedulers"}

# The methods of a trainer that each mode calls. If there is a validation set, `train` and `finetune` also validate.
_STEPS: Mapping[str, Sequence[str]] = {
    "train": ("training_step",),
    "finetune": ("training_step",),
    "validate": ("validation_step", "validation_epoch_end"),
    "test": ("test_step", "test_epoch_end"),
    "predict": ("predict_step",),
}
DEFINE_STEP = "define the method; docs/writing_a_trainer.md describes its arguments and its result"

PLATEAU_AT_STEPS = "ReduceLROnPlateau follows the score, so it steps after each validation"

VALIDATION_INTERVALS = ("validation_interval", "validation_interval_steps", "validation_interval_minutes")
"""The arguments of a trainer that say when it validates. At most one of them can be set."""


def check_training(
    components: Mapping[KeyPath, CheckedComponent],
    sections: Mapping[str, Mapping[str, Component]],
    *,
    modes: Sequence[str],
    validates: bool,
) -> Iterator[Finding]:
    """Yields findings about components that are valid individually, but do not work together, or not in these modes.

    Args:
        components: the checked components by key path.
        sections: the sections that each build one object, by kind and suffix.
        modes: the modes to run.
        validates: whether there is a validation set.
    """
    trainer = next((components[part.key] for part in sections["trainer"].values() if part.key in components), None)
    if trainer is not None:
        yield from _missing_parts(trainer, sections)
        yield from _unused_losses(trainer, sections)
        yield from _missing_methods(trainer, modes, validates=validates)
        args = trainer.component.args
        if len(intervals := [name for name in VALIDATION_INTERVALS if args.get(name) is not None]) > 1:
            label = "leave out all but one of them"
            yield (
                Diagnostic(
                    config_codes.UNFIT, several_intervals(intervals), label=label, place=("args", intervals[-1])
                ),
                trainer.component.key,
            )
    for optimizer in sections["optimizer"].values():
        checked = components.get(optimizer.key)
        if checked and isinstance(checked.target, type) and (message := needs_closure(checked.target)):
            label = "use an optimiser that needs only gradients, such as `torch.optim.RAdam`"
            yield Diagnostic(config_codes.UNFIT, message, label=label, place=("path",)), optimizer.key
    for scheduler in sections["lr_scheduler"].values():
        if checked := components.get(scheduler.key):
            for part in checked.walk():
                if is_plateau(part.target):
                    yield from _wrong_plateau(part, scheduler, trainer)


def missing_steps(trainer: type, base: type, modes: Sequence[str], *, validates: bool) -> list[str]:
    """Returns the methods that the modes call and that a trainer does not define.

    Args:
        trainer: the class of the trainer.
        base: the base class of trainers, whose methods are only placeholders.
        modes: the modes to run, in order.
        validates: whether training also validates.
    """
    wanted = [*modes, *(["validate"] if validates and {"train", "finetune"} & set(modes) else [])]
    methods = dict.fromkeys(method for mode in wanted for method in _STEPS[mode])
    return [method for method in methods if getattr(trainer, method) is getattr(base, method)]


def lacks_step(trainer: type, method: str) -> str:
    """Returns the message for a trainer that lacks a method that it needs."""
    return f"{trainer.__name__} does not define `{method}`, which this mode needs"


def several_intervals(names: Sequence[str]) -> str:
    """Returns the message for a trainer that has several of the arguments `VALIDATION_INTERVALS`."""
    return f"the validation has several intervals: {listed([f'`{name}`' for name in names])}"


def needs_closure(optimizer: Any) -> str | None:
    """Returns an error message if an optimiser object or class needs a closure for the loss, like LBFGS; else None."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is None or closure.default is not closure.empty:
        return None
    name = getattr(optimizer, "__name__", type(optimizer).__name__)
    return f"{name} needs a closure that evaluates the loss several times a step, but trainers do not pass one"


def plateau_mode(save_max_score: bool) -> str:
    """Returns the `mode` that `ReduceLROnPlateau` needs: "max" if a higher score is better, otherwise "min"."""
    return "max" if save_max_score else "min"


def wrong_plateau_mode(mode: str, *, by_default: bool = False) -> str:
    """Returns the message for a `ReduceLROnPlateau` whose `mode` treats better scores as worse."""
    better = "higher" if mode == "min" else "lower"
    return (
        f'`mode` of ReduceLROnPlateau is "{mode}"{" by default" * by_default}, but for this trainer a {better} score '
        "is better"
    )


def _missing_parts(trainer: CheckedComponent, sections: Mapping[str, Mapping[str, Component]]) -> Iterator[Finding]:
    """Yields a warning if a trainer uses a component without a suffix, but the file has only components with suffixes.

    This is not an error, because the method that uses the component may never be called.
    """
    if not isinstance(trainer.target, type):
        return
    only_suffixed = [kind for kind in _ATTRIBUTES if sections[kind] and "" not in sections[kind]]
    # Reading the source of a trainer is slow.
    used = attributes_used(trainer.target, KINDS["trainer"].base) if only_suffixed else {}
    for kind in only_suffixed:
        plural, suffixes = _ATTRIBUTES[kind], sorted(sections[kind])
        if kind in used:
            headers = ", ".join(f"[{section_name(kind, suffix)}]" for suffix in suffixes)
            yield (
                Diagnostic(
                    config_codes.NO_PARTNER,
                    f"`{trainer.component.path}` uses `self.{kind}`, but instead of `[{kind}]` the file has {headers}",
                    severity="warning",
                    label=f"rename the section to `[{kind}]`, or use a trainer for several networks",
                    notes=(
                        f"used in: {used[kind]}",
                        f'help: a trainer for several networks uses `self.{plural}["{suffixes[0]}"]`',
                    ),
                    place=("path",),
                ),
                trainer.component.key,
            )


def _unused_losses(trainer: CheckedComponent, sections: Mapping[str, Mapping[str, Component]]) -> Iterator[Finding]:
    """Yields a warning for each loss function whose suffix no model has, if the trainer does not use it.

    This is not an error, because code outside the trainer's modules may use the loss function.
    """
    unmatched = sorted(sections["loss_function"].keys() - sections["model"].keys())
    if not unmatched or not isinstance(trainer.target, type):
        return
    used = keys_used(trainer.target, KINDS["trainer"].base, "loss_functions")
    if used is None or not sections["model"]:
        return
    for suffix in unmatched:
        # Skip the loss without a suffix, because `keys_used` does not see uses of `self.loss_function`.
        if suffix and suffix not in used:
            message = f"`[{section_name('loss_function', suffix)}]` is not used: no model has the suffix `{suffix}`"
            yield (
                Diagnostic(
                    config_codes.NO_PARTNER,
                    f'{message}, and `{trainer.component.path}` does not use `self.loss_functions["{suffix}"]`',
                    severity="warning",
                    label="leave it out, or give it the suffix of its model",
                    at="key",
                ),
                sections["loss_function"][suffix].key,
            )


def _missing_methods(trainer: CheckedComponent, modes: Sequence[str], *, validates: bool) -> Iterator[Finding]:
    base = loaded_class(KINDS["trainer"].base)
    if base is None or not isinstance(trainer.target, type):
        return
    for method in missing_steps(trainer.target, base, modes, validates=validates):
        message, notes = lacks_step(trainer.target, method), (f"help: {DEFINE_STEP}",)
        yield Diagnostic(config_codes.UNFIT, message, notes=notes, place=("path",)), trainer.component.key


def is_plateau(target: Any) -> bool:
    """Returns whether an object is the class `ReduceLROnPlateau` or a subclass. Does not import torch."""
    return isinstance(target, type) and any(
        base.__name__ == "ReduceLROnPlateau" and base.__module__ == "torch.optim.lr_scheduler"
        for base in target.__mro__
    )


def _wrong_plateau(
    plateau: CheckedComponent, scheduler: Component, trainer: CheckedComponent | None
) -> Iterator[Finding]:
    key = plateau.component.key
    if plateau.component is not scheduler:
        message = f"ReduceLROnPlateau can't be a part of `{scheduler.path}`, which does not pass the score on"
        yield Diagnostic(config_codes.UNFIT, message, label="use it alone", place=("path",)), key
        return
    if isinstance(scheduler, SchedulerComponent) and scheduler.interval == "step":
        message = PLATEAU_AT_STEPS
        label, suggestion = "did you mean `epoch`?", '"epoch"'
        finding = Diagnostic(
            config_codes.UNFIT, message, label=label, suggestion=suggestion, place=("interval",), at="value"
        )
        yield finding, key
    mode, higher = _argument(plateau, "mode"), trainer and _argument(trainer, "save_max_score")
    if mode not in ("min", "max") or not isinstance(higher, bool):
        return  # the value is not known until the objects are built; the run checks it then
    wanted = plateau_mode(higher)
    if mode != wanted:
        is_set = "mode" in plateau.component.args
        yield (
            Diagnostic(
                config_codes.UNFIT,
                wrong_plateau_mode(mode, by_default=not is_set),
                label=f'set `mode = "{wanted}"` in {plateau.component.args_header}, or change `save_max_score`',
                suggestion=f'"{wanted}"' if is_set else None,
                place=("args", "mode") if is_set else ("path",),
            ),
            key,
        )


def _argument(checked: CheckedComponent, name: str) -> Any:
    """Returns the value of an argument in the TOML file, or else its default.

    Returns None if the constructor does not have this argument, because the class may set the value itself.
    """
    parameter = checked.signature.get(name) if checked.signature else None
    return checked.component.args.get(name, parameter.default if parameter else None)
