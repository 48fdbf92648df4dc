"""Checks the groups of parameters of optimisers, without building anything."""

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
    """Yields what is wrong in `[[optimizer.groups]]`: arguments that the optimiser does not take, contradictions.

    Which parameters a pattern matches is only known when the network is built.

    Args:
        components: the checked components by key path.
        optimizers: the sections of optimisers by suffix.
    """
    for section in optimizers.values():
        assert isinstance(section, OptimizerComponent)  # the class that the schema has for these sections
        for group in section.groups:
            if not group.patterns:
                message = f"{group.header} has no pattern in `match`"
                yield Diagnostic(config_codes.BAD_VALUE, message, place=("match",)), group.key
            if group.freeze is False and group.unfreeze_epoch is not None:
                message = f"{group.header} says `freeze = false`, but also when it is unfrozen"
                label = "leave one of the two out"
                yield Diagnostic(config_codes.BAD_VALUE, message, label=label, place=("freeze",)), group.key
            if checked := components.get(section.key):
                yield from _argument_findings(checked, group)


def _argument_findings(optimizer: CheckedComponent, group: ParameterGroup) -> Iterator[Finding]:
    args = {**optimizer.component.args, **group.args}
    injected, name = KINDS["optimizer"].injected, optimizer.component.path
    for problem in check_arguments(optimizer.signature, args, injected=injected, name=name):
        argument = problem.place[1] if len(problem.place) > 1 else ""
        if argument not in group.args:
            continue  # it is reported for the optimiser
        own = nearest(str(argument), keys_of(ParameterGroup))
        if problem.code == config_codes.UNKNOWN_ARGUMENT and own:
            yield replace(problem, label=did_you_mean(own), suggestion=own, place=problem.place[1:]), group.key
        else:
            yield replace(problem, place=problem.place[1:]), group.key
