"""Finds settings that have no effect because the file has no validation set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from audiozen_core.config.check_training import VALIDATION_INTERVALS, is_plateau
from audiozen_core.config.checked import CheckedComponent
from audiozen_core.config.read_sections import Sections
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Finding
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.kinds import TRAINING

# Trainer arguments that only affect validation. A user who sets one of these arguments expects a validation.
_VALIDATION_ARGUMENTS = ("patience", "monitor", *VALIDATION_INTERVALS)


def check_unused(
    components: Mapping[KeyPath, CheckedComponent], sections: Sections, *, modes: Sequence[str]
) -> Iterator[Finding]:
    """Yields a warning for each setting that needs the score of a validation, if the experiment never validates.

    Args:
        components: the checked components by key path.
        sections: the sections of the file.
        modes: the modes to run. Without a training mode, nothing is checked.
    """
    if sections.datasets["validate"] or not set(modes) & set(TRAINING):
        return
    for trainer in sections.components_by_kind["trainer"].values():
        for name in _VALIDATION_ARGUMENTS:
            if trainer.args.get(name) is not None:
                yield _unused(f"`{name}`", ("args", name)), trainer.key
    for scheduler in sections.components_by_kind["lr_scheduler"].values():
        checked = components.get(scheduler.key)
        if checked and is_plateau(checked.target):
            yield _unused("ReduceLROnPlateau", ("path",)), scheduler.key


def _unused(what: str, place: KeyPath) -> Diagnostic:
    return Diagnostic(
        config_codes.UNFIT,
        f"{what} has no effect without a validation set, because no score is computed",
        severity="warning",
        label="add a section `[validate_dataset]`, or leave this out",
        place=place,
    )
