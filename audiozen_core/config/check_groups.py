"""Checks the parameter groups of optimisers, without building anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from audiozen_core.binding.arguments import check_arguments
from audiozen_core.config.checked import CheckedComponent
from audiozen_core.config.schema import keys_of
from audiozen_core.config.sections import Component, OptimizerComponent, ParameterGroup
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Finding
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.kinds import KINDS


def group_findings(
    components: Mapping[KeyPath, CheckedComponent], optimizers: Mapping[str, Component]
) -> Iterator[Finding]:
    """Yields the errors in `[[optimizer.groups]]`: wrong arguments, and settings that contradict each other.

    This check can't say which parameters a pattern matches, because the network is not built yet.

    Args:
        components: the checked components by key path.
        optimizers: the sections of optimisers by suffix.
    """
    for section in optimizers.values():
        assert isinstance(section, OptimizerComponent)  # the schema reads these sections into this class
        for group in section.groups:
            if not group.patterns:
                message = f"{group.header} has no pattern in `match`"
                notes = ("help: give at least one pattern, such as `encoder.*`",)
                yield Diagnostic(config_codes.BAD_VALUE, message, notes=notes, place=("match",)), group.key
            if group.freeze is False and group.unfreeze_epoch is not None:
                message = f"{group.header} sets `freeze = false`, but also `unfreeze_epoch`"
                label = "remove one of the two settings"
                yield Diagnostic(config_codes.BAD_VALUE, message, label=label, place=("freeze",)), group.key
            if checked := components.get(section.key):
                yield from _argument_findings(checked, group)


def _argument_findings(optimizer: CheckedComponent, group: ParameterGroup) -> Iterator[Finding]:
    args = {**optimizer.component.args, **group.args}
    injected, name = KINDS["optimizer"].injected, optimizer.component.path
    for problem in check_arguments(optimizer.signature, args, injected=injected, name=name):
        argument = problem.place[1] if len(problem.place) > 1 else ""
        if argument not in group.args:
            continue  # the check of the optimiser itself reports the error
        group_key = nearest(str(argument), keys_of(ParameterGroup))
        if problem.code == config_codes.UNKNOWN_ARGUMENT and group_key:
            label = did_you_mean(group_key)
            yield replace(problem, label=label, suggestion=group_key, place=problem.place[1:]), group.key
        else:
            yield replace(problem, place=problem.place[1:]), group.key
