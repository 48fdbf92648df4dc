"""Divides the parameters that an optimiser trains into the groups of `[[optimizer.groups]]`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer

from audiozen_core.config.sections import Component, OptimizerComponent, ParameterGroup
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.listed import listed
from audiozen_core.diagnostics.suggestions import did_you_mean, similar_names
from audiozen_core.errors import BuildError
from audiozen_core.kinds import section_name
from audiozen_core.trainer.frozen_weights import FrozenGroup
from audiozen_core.trainer.module_state import parameter_names

DEFAULT = "default"
"""The name of the group of all parameters that no pattern matches."""


Rebuild = Callable[[Mapping[str, Any], Sequence[nn.Parameter]], Optimizer]
"""Builds the optimiser of a section with the given arguments and parameters."""


@dataclass(frozen=True, slots=True)
class Group:
    """The parameters of one group.

    Attributes:
        table: the entry in the TOML file; None for the default group.
        name: the name in records, unique among the groups.
        parameters: the names of the parameters. The name of a parameter of the loss begins with the loss's section,
            such as `loss_function.`.
    """

    table: ParameterGroup | None
    name: str
    parameters: tuple[str, ...]


class ParameterGroups:
    """The groups of one optimiser. A parameter belongs to the first group with a pattern that matches its name.

    The constructor freezes the groups that are frozen in the first epoch, before networks are sharded. Sharding
    replaces the parameters, so the groups store names instead of parameters.

    Args:
        section: the section of the optimiser.
        suffix: the suffix of the optimiser.
        model: the network that the optimiser trains.
        loss: the loss function with the same suffix; None if no loss function has this suffix.
        trained: the parameters of the loss function that the optimiser trains.

    Raises:
        BuildError: a pattern does not match any parameter, a group has no parameters, or all parameters are frozen.
    """

    def __init__(
        self, section: OptimizerComponent, suffix: str, model: nn.Module, loss: Any, trained: Iterable[Tensor]
    ) -> None:
        self._section = section
        self._model = model
        # The names of the parameters of the loss begin with its section.
        self._loss = loss if isinstance(loss, nn.Module) else None
        self._prefix = f"{section_name('loss_function', suffix)}."
        trained_ids = set(map(id, trained))
        self._trained = {name for name, weight in self._loss_parameters().items() if id(weight) in trained_ids}
        self.groups: list[Group] = []
        self._frozen: list[Group] = []
        if section.groups:
            named = self._named()
            self.groups = _divide(section, named)
            self._freeze(named)

    def params(self, rebuild: Rebuild) -> list[dict[str, Any]]:
        """Returns the groups as the `params` of a torch optimiser; empty if the section has no groups.

        A torch optimiser checks and converts its constructor arguments, but not the arguments of a group. Therefore, an
        optimiser is built with the arguments of each group that has its own, and the group gets the checked values from
        this optimiser.

        Raises:
            BuildError: the optimiser rejects an argument of a group, or uses one value of the argument for all groups.
        """
        named = self._named()
        made = []
        for group in self.groups:
            weights = [named[name] for name in group.parameters]
            entry = {"params": weights, "name": group.name, "param_names": list(group.parameters)}
            if group.table and group.table.args:
                entry |= _options(self._section, group.table, weights, rebuild)
            made.append(entry)
        return made

    def frozen(self) -> Iterator[FrozenGroup]:
        """Yields the weights of the groups that are frozen, for the whole training or until an epoch."""
        named = self._named()
        for group in self._frozen:
            assert group.table is not None  # the default group is never frozen
            yield FrozenGroup([named[name] for name in group.parameters], group.table.unfreeze_epoch)

    def _freeze(self, named: Mapping[str, nn.Parameter]) -> None:
        for group in self.groups:
            if group.table and (group.table.freeze or group.table.unfreeze_epoch):
                # A parameter that did not require a gradient before is not unfrozen with the group.
                frozen = tuple(name for name in group.parameters if named[name].requires_grad)
                self._frozen.append(Group(group.table, group.name, frozen))
                for name in frozen:
                    named[name].requires_grad = False  # a lazy parameter has no method `requires_grad_`
        if self._frozen and not any(weight.requires_grad for weight in named.values()):
            header = self._section.header
            raise BuildError(
                f"{header} has nothing to train in the first epoch: its groups freeze all parameters",
                code=config_codes.BAD_VALUE,
                place=("groups",),
                remedy=f"train some of them; or, for a network that is never trained, leave {header} out",
            )

    def _named(self) -> dict[str, nn.Parameter]:
        """Returns the parameters of the network and the loss by name, with an entry for each name of a parameter."""
        of_loss = {name: weight for name, weight in self._loss_parameters().items() if name in self._trained}
        return parameter_names(self._model) | of_loss

    def _loss_parameters(self) -> dict[str, nn.Parameter]:
        parameters = parameter_names(self._loss) if self._loss is not None else {}
        return {f"{self._prefix}{name}": weight for name, weight in parameters.items()}


def check_group_rates(section: Component, optimizer: Optimizer, before: Sequence[Any]) -> None:
    """Checks that a new scheduler has not replaced different learning rates of groups with the same rate.

    Args:
        section: the section of the scheduler.
        optimizer: the optimiser that the scheduler controls.
        before: the rates of the groups before the scheduler was built.

    Raises:
        BuildError: the rates were different before and are equal now, as with `OneCycleLR` and a single `max_lr`.
    """
    groups = optimizer.param_groups
    after: list[Any] = [group.get("initial_lr", group.get("lr")) for group in groups]
    # The rates may be tensors, and an optimiser may not have a learning rate.
    if len(groups) > 1 and None not in before and len(set(map(float, before))) > 1 and len(set(map(float, after))) == 1:
        names = ", ".join(str(group.get("name", index)) for index, group in enumerate(groups))
        raise BuildError(
            f"{section.header} gives all groups of the optimiser the same learning rate, so their own `lr` has no "
            "effect",
            code=config_codes.UNFIT,
            place=("path",),
            remedy=f"give it an array with a rate for each group, in the order {names}; or leave `lr` out of the "
            "groups",
        )


def group_facts(section: Component, optimizer: Optimizer) -> dict[str, str]:
    """Describes each group in one line: its patterns, size and arguments, and when it is trained."""
    if not isinstance(section, OptimizerComponent) or not section.groups:
        return {}
    shown = list(dict.fromkeys(["lr", *(name for table in section.groups for name in table.args)]))
    facts = {}
    for group, table in zip(optimizer.param_groups, [*section.groups, None], strict=False):
        count = sum(weight.numel() for weight in group["params"] if not is_lazy(weight))
        words = [" ".join(f"`{pattern}`" for pattern in table.patterns) if table else "all others"]
        tensors = len(group["params"])
        words.append(f"{tensors} parameter{'s' * (tensors != 1)} with {count:,} weight{'s' * (count != 1)}")
        words += [f"{name} = {group[name]}" for name in shown if name in group]
        if table and table.unfreeze_epoch:
            words.append(f"frozen until epoch {table.unfreeze_epoch} begins")
        elif table and table.freeze:
            words.append("frozen")
        facts[f"{section.section} group {group['name']}"] = ", ".join(words)
    return facts


def _divide(section: OptimizerComponent, named: Mapping[str, nn.Parameter]) -> list[Group]:
    """Returns the groups in the order of the file, then the default group if any parameters are left."""
    names: dict[int, list[str]] = {}
    for name, weight in named.items():
        names.setdefault(id(weight), []).append(name)
    owners: dict[int, ParameterGroup] = {}
    groups = []
    for table in section.groups:
        matched = [key for key, each in names.items() if any(_matches(name, table.patterns) for name in each)]
        for pattern in table.patterns:
            if not any(fnmatchcase(name, pattern) for name in named):
                raise _no_match(table, pattern, list(named))
        free = [key for key in matched if key not in owners]
        if not free:
            earlier = dict.fromkeys(owners[key].header for key in matched)
            raise BuildError(
                f"{table.header} has no parameters, because all that `match` names belong to {listed(earlier)}",
                code=config_codes.BAD_VALUE,
                place=(*table.key[1:], "match"),
                remedy="a parameter belongs to the first group that matches it, so put special patterns before general "
                "ones",
            )
        owners |= dict.fromkeys(free, table)
        groups.append((table, table.name, free))
    rest = [key for key in names if key not in owners]
    taken = [name for _, name, _ in groups]
    found = [
        Group(table, f"{name}_{index}" if taken.count(name) > 1 else name, tuple(names[key][0] for key in keys))
        for index, (table, name, keys) in enumerate(groups)
    ]
    return [*found, Group(None, DEFAULT, tuple(names[key][0] for key in rest))] if rest else found


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _options(
    section: OptimizerComponent, table: ParameterGroup, weights: Sequence[nn.Parameter], rebuild: Rebuild
) -> dict[str, Any]:
    """Returns the values of all arguments of one group, as converted by the optimiser."""
    try:
        optimizer = rebuild({**section.args, **table.args}, weights)
    except BuildError as error:
        raise BuildError(
            f"{table.header} can't be used: {error.message}",
            place=table.key[1:],
            notes=error.notes,
            remedy=f"check the arguments in {table.header} and {section.args_header}",
        ) from error
    options = {name: value for name, value in optimizer.param_groups[0].items() if name != "params"}
    if shared := [name for name in table.args if name not in options]:
        raise BuildError(
            f"{table.header} sets `{shared[0]}`, but `{section.path}` has one `{shared[0]}` for all parameters",
            code=config_codes.BAD_VALUE,
            place=(*table.key[1:], shared[0]),
            remedy=f"move it to {section.args_header}",
        )
    return options


def _no_match(table: ParameterGroup, pattern: str, names: Sequence[str]) -> BuildError:
    return BuildError(
        f"the pattern `{pattern}` of {table.header} matches no parameter",
        code=config_codes.BAD_VALUE,
        place=(*table.key[1:], "match"),
        remedy=near_pattern(pattern, names),
    )


def near_pattern(pattern: str, names: Sequence[str]) -> str:
    """Returns the remedy for a pattern that does not match any name: similar names, or the beginnings of all names."""
    modules = dict.fromkeys(name.rsplit(".", depth)[0] for name in names for depth in range(1, name.count(".") + 1))
    bare = pattern.rstrip("*").rstrip(".")
    if bare in modules:
        return did_you_mean(f"{bare}.*")
    near = similar_names(bare, [*modules, *names])
    if near:
        return f"similar names: {', '.join(f'`{name}.*`' if name in modules else f'`{name}`' for name in near)}"
    tops = dict.fromkeys(name.partition(".")[0] for name in names)
    return f"the names begin with {listed(f'`{top}`' for top in tops)}; a pattern for a whole module ends in `.*`"
