"""Builds the objects of a checked configuration: networks, optimisers, data, hooks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.optim import Optimizer
from torch.utils.data import ChainDataset, ConcatDataset, IterableDataset

from audiozen_core.binding.arguments import build, call_arguments
from audiozen_core.config.check_training import needs_closure
from audiozen_core.config.checked import CheckedComponent, CheckedConfig
from audiozen_core.config.hooks import hook_path, named_hooks
from audiozen_core.config.sections import (
    Component,
    Dataloader,
    DatasetComponent,
    LossComponent,
    ModelComponent,
    OptimizerComponent,
    SchedulerComponent,
)
from audiozen_core.data.loader import BatchLoader
from audiozen_core.data.streams import collate_error, mixture_error
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.distributed.ranks import ALONE, Ranks
from audiozen_core.errors import AudioZenError, BuildError, DataError
from audiozen_core.experiment.model_options import apply_options
from audiozen_core.experiment.parameter_groups import ParameterGroups, check_rates
from audiozen_core.experiment.part_parameters import (
    check_registered,
    check_untrained,
    decide_training,
    with_held_modules,
)
from audiozen_core.experiment.placement import moved, shard_components, with_synchronised_norms
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.kinds import KINDS, section_name
from audiozen_core.logging import log_fields
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.frozen_weights import FrozenWeights
from audiozen_core.trainer.scheduler import Scheduler

# Components of these kinds need components of earlier kinds, so they are built in this order. The injected arguments of
# other kinds are settings of `[acoustics]`.
_BUILT_ONE_BY_ONE = ("model", "loss_function", "optimizer", "lr_scheduler", "trainer")


def build_components(
    checked: CheckedConfig,
    lifecycle: Lifecycle,
    folder: Path,
    device: torch.device,
    *,
    trains: bool,
    optimizes: bool = True,
    ranks: Ranks = ALONE,
    shards: bool = False,
) -> Components:
    """Builds the networks, losses, optimisers and schedulers of an experiment.

    Args:
        checked: the configuration.
        lifecycle: the hooks.
        folder: the folder of the run.
        device: the device of the networks and losses.
        trains: whether one of the modes trains. If none does, losses do not need the key `trainable`.
        optimizes: whether to build optimisers and schedulers. An evaluation does not need them, and building the first
            optimiser makes torch import its compiler, which takes 70 MB.
        ranks: the processes of the run.
        shards: whether to distribute the weights over the ranks.

    Raises:
        BuildError: a constructor failed, or the object that it returned can't be used; the error names the section.
    """
    config = checked.config

    def built(component: Component, **injected: Any) -> Any:
        return lifecycle.wrap_component(component.section, build_component(checked.component(component), injected))

    sections = config.components
    models = {}
    for suffix, section in sections["model"].items():
        assert isinstance(section, ModelComponent)  # the schema defines this class for these sections
        model = built(section)
        check_registered(section, model)
        with _located(checked, section):
            model = with_synchronised_norms(model, config.distributed, ranks, device)
            apply_options(section, model)
        models[suffix] = model
    losses: dict[str, Any] = {}
    trained_losses: dict[str, list[nn.Parameter]] = {}
    for suffix, section in sections["loss_function"].items():
        assert isinstance(section, LossComponent)  # the schema defines this class for these sections
        loss = built(section)
        with _located(checked, section):
            losses[suffix] = with_held_modules(section, loss)
        if trains:
            with _located(checked, section):
                trained_losses[suffix] = decide_training(section, suffix, losses[suffix], sections["optimizer"])
    groups = {}
    for suffix, section in sections["optimizer"].items():
        assert isinstance(section, OptimizerComponent)  # the schema defines this class for these sections
        with _located(checked, section):
            trained = trained_losses.get(suffix, ())
            groups[suffix] = ParameterGroups(section, suffix, models[suffix], losses.get(suffix), trained)
    if shards:
        # Weights are sharded before they move to the device, so that a GPU never holds all weights of a network.
        shard_components(models, losses, trained_losses, config.distributed, ranks, device)
    for kind, parts in (("model", models), ("loss_function", losses)):
        for suffix, part in parts.items():
            parts[suffix] = moved(sections[kind][suffix], part, device)
    optimizers = {}
    for suffix, section in sections["optimizer"].items() if optimizes else ():
        weights = [*models[suffix].parameters(), *trained_losses.get(suffix, ())]
        with _located(checked, section):
            params = groups[suffix].params(functools.partial(_rebuilt, checked.component(section))) or weights
        try:
            optimizers[suffix] = built(section, params=params)
        except BuildError as error:
            if not any(map(is_lazy, weights)):
                raise
            raise BuildError(
                f"{section.header} can't be built, because `{section.path}` needs the shapes of all weights, and "
                f"[{section_name('model', suffix)}] has lazy modules",
                remedy="build these modules with explicit sizes, or use another optimiser, such as torch.optim.Adam",
                notes=error.notes,
            ) from error
        with _located(checked, section):
            _check_step(section, optimizers[suffix])
    schedulers = {}
    for suffix, section in sections["lr_scheduler"].items() if optimizes else ():
        assert isinstance(section, SchedulerComponent)  # the schema defines this class for these sections
        rates = [group.get("lr") for group in optimizers[suffix].param_groups]
        scheduler = built(section, optimizer=optimizers[suffix])
        with _located(checked, section):
            check_rates(section, optimizers[suffix], rates)
        schedulers[suffix] = Scheduler(scheduler, section.interval, section.section)
    others: dict[str, dict[str, Any]] = {kind: {} for kind in sections if kind not in _BUILT_ONE_BY_ONE}
    for kind in others:
        settings = {name: getattr(config.acoustics, name) for name in KINDS[kind].injected}
        for suffix, section in sections[kind].items():
            others[kind][suffix] = _other(checked, section, built(section, **settings), device)
    return Components(
        models=models,
        loss_functions=losses,
        optimizers=optimizers,
        frozen_weights=FrozenWeights(frozen for of_suffix in groups.values() for frozen in of_suffix.frozen()),
        lr_schedulers=schedulers,
        others=others,
        acoustics=config.acoustics,
        sections=checked.sections,
        folder=folder,
        experiment=config.id,
        device=device,
        seed=config.meta.seed,
        use_amp=config.meta.use_amp,
        lifecycle=lifecycle,
        config_text=config.text,
        dataset_names=config.dataset_names,
        ranks=ranks,
        distributed=config.distributed,
    )


@contextmanager
def _located(checked: CheckedConfig, section: Component) -> Iterator[None]:
    """Adds the position of the section in the TOML file to a `BuildError` that is raised in the block."""
    try:
        yield
    except BuildError as error:
        error.locate(checked.composition.placed(error.diagnostics[0], section.key))
        raise


def _rebuilt(checked: CheckedComponent, args: Mapping[str, Any], params: Sequence[Any]) -> Any:
    """Builds a component with other arguments."""
    component = dataclasses.replace(checked.component, args=dict(args))
    return build_component(dataclasses.replace(checked, component=component), {"params": params})


def _other(checked: CheckedConfig, section: Component, part: Any, device: torch.device) -> Any:
    """Checks that a component has no trainable parameters, and moves it to the device if it is a module.

    It is called for kinds outside `_BUILT_ONE_BY_ONE`, whose parameters no optimiser trains.
    """
    with _located(checked, section):
        check_untrained(section, part)
    return moved(section, part, device)


def _check_step(section: Component, optimizer: Optimizer) -> None:
    """Raises an error for an optimiser whose `step` needs a closure.

    `check_config` finds such classes, but can't know which optimiser a factory function returns.
    """
    if message := needs_closure(optimizer):
        remedy = "use an optimiser that needs only gradients, such as torch.optim.RAdam"
        raise BuildError(f"{section.header} {message}", code=config_codes.UNFIT, place=("path",), remedy=remedy)


def build_lifecycle(checked: CheckedConfig, *, is_main: bool = True) -> Lifecycle:
    """Builds the hooks of the TOML file, and the default hooks that the file does not replace or switch off.

    Args:
        checked: the configuration.
        is_main: whether this is the main process of the run.
    """
    plugins = []
    for found in checked.default_hooks:
        assert found.entry  # a default hook is an installed component
        args = getattr(found.target, "default_args", {})
        plugins.append(Plugin(found.entry.name, build(found.target, args), "default", found.entry.distribution))
    for name, hook in named_hooks(checked.config.hooks):
        component = checked.component(hook)
        span = checked.composition.origin(hook.key).key_span
        origin = f"{span.file.name}:{span.line}"
        plugins.append(Plugin(name, build_component(component), origin, component.distribution, hook_path(hook)))
    return Lifecycle(plugins, is_main=is_main)


def build_loader(
    checked: CheckedConfig,
    sections: Sequence[DatasetComponent],
    lifecycle: Lifecycle,
    *,
    train: bool,
    cuda: bool,
    share: tuple[int, int] = (0, 1),
    first_batches: int | None = None,
) -> BatchLoader:
    """Builds the data sets of some sections, joins them into one data set, and builds its loader.

    `check_config` has checked that the sections agree on their `dataloader`. By default a loader for training shuffles,
    and a loader for a GPU pins memory. Hooks may wrap each data set and the loader. `share` is the rank of this process
    and the number of ranks. `first_batches` is the number of batches in a trial; see `BatchLoader`.
    """
    config = checked.config
    datasets = []
    for section in sections:
        # A data set with an argument `sr` gets the value in [acoustics], so that a TOML file states the rate only once.
        injected = {"sr": config.acoustics.sr} if _takes(checked.component(section), "sr") else {}
        dataset = lifecycle.wrap_component(section.section, build_component(checked.component(section), injected))
        with _located(checked, section):
            _check_rate(section, dataset, config.acoustics.sr)
            check_untrained(section, dataset)
        datasets.append(dataset)
    table: Dataloader = sections[0].dataloader
    with _located(checked, sections[0]):
        dataset = _joined(sections, datasets)
        shared = None if table.collate_fn else _shared_collate_fn(sections, datasets)
    stream = isinstance(dataset, IterableDataset)
    collate_fn = build_component(checked.component(table.collate_fn)) if table.collate_fn else shared
    samplers = {
        key: build_component(checked.component(component), {"data_source": dataset})
        for key, component in (("sampler", table.sampler), ("batch_sampler", table.batch_sampler))
        if component
    }
    options: dict[str, Any] = {}
    if table.num_workers:
        options = {"prefetch_factor": table.prefetch_factor, "timeout": table.timeout}
        if table.persistent_workers is not None:
            options["persistent_workers"] = table.persistent_workers
    loader = BatchLoader(
        dataset,
        batch_size=table.batch_size,
        shuffle=train and not stream if table.shuffle is None else table.shuffle,
        num_workers=table.num_workers,
        drop_last=table.drop_last,
        pin_memory=cuda if table.pin_memory is None else table.pin_memory,
        collate_fn=collate_fn,
        seed=config.meta.seed,
        evaluates=not train,
        names=[section.header for section in sections],
        place=sections[0].dataloader_header,
        share=share,
        first_batches=first_batches,
        **samplers,
        **options,
    )
    wrapped: BatchLoader = lifecycle.wrap_component(f"{sections[0].section}.dataloader", loader)
    return wrapped


def _joined(sections: Sequence[DatasetComponent], datasets: Sequence[Any]) -> Any:
    """Joins the data sets of an array of sections into one. Streams are chained; other data sets are concatenated."""
    if len(datasets) == 1:
        return datasets[0]
    streams = {
        section.header: isinstance(dataset, IterableDataset)
        for section, dataset in zip(sections, datasets, strict=True)
    }
    if error := mixture_error(streams):
        raise error
    if all(streams.values()):
        return ChainDataset(datasets)
    for section, dataset in zip(sections, datasets, strict=True):
        if hasattr(dataset, "__len__") and len(dataset) == 0:
            remedy = f"check {section.args_header}, or remove {section.header}"
            raise DataError(f"{section.header} is empty", remedy=remedy)
    return ConcatDataset(datasets)


def _shared_collate_fn(sections: Sequence[DatasetComponent], datasets: Sequence[Any]) -> Any:
    """Returns the `collate_fn` that all data sets share; None if the data sets have no `collate_fn`."""
    functions = {
        section.header: getattr(dataset, "collate_fn", None)
        for section, dataset in zip(sections, datasets, strict=True)
    }
    if found := collate_error(functions, sections[0].dataloader_header):
        raise found[1]
    return functions[sections[0].header]


def _takes(checked: CheckedComponent, name: str) -> bool:
    """Returns whether a component has an argument with this name that the TOML file does not set."""
    signature = checked.signature
    return signature is not None and signature.get(name) is not None and name not in checked.component.args


def _check_rate(section: DatasetComponent, dataset: Any, sr: int) -> None:
    """Raises an error if a data set's sample rate differs from `sr`, because the results would be mislabelled."""
    rate = getattr(dataset, "sr", sr)
    if isinstance(rate, int) and rate != sr:
        raise BuildError(
            f"{section.header} has audio of {rate} Hz, but [acoustics] says `sr = {sr}`",
            code=config_codes.NUMBERS_DISAGREE,
            remedy=f"set `sr` to the rate of your files in both [acoustics] and {section.args_header}",
        )


def build_component(checked: CheckedComponent, injected: Mapping[str, Any] | None = None) -> Any:
    """Builds the components within `args`, then calls the object that `path` names with `args`.

    A function that the trainer calls later, such as a loss, is not called here. Instead, its `args` are bound with
    `functools.partial`. Injected arguments are passed if the object accepts them.

    Raises:
        BuildError: the constructor of the component, or of a component within its arguments, raised an error.
    """
    # Several sections may use the same class, so each line that the constructor logs contains the section.
    with log_fields(section=checked.component.header):
        return _build(checked, injected or {})


def _build(checked: CheckedComponent, injected: Mapping[str, Any]) -> Any:
    component = checked.component
    args = {
        name: _build_nested(value, (*component.key, "args", name), checked, injected)
        for name, value in component.args.items()
    }
    try:
        positional, keywords = call_arguments(checked.signature, args, injected)
        if checked.called_later:
            return functools.partial(checked.target, *positional, **keywords) if args else checked.target
        made = checked.target(*positional, **keywords)
    except AudioZenError as error:
        error.notes = (*error.notes, f"named in: {checked.origin}")
        raise
    # `sys.exit(0)` in a constructor would end the run as if it had succeeded.
    except (Exception, SystemExit) as error:
        raise BuildError.caused_by(
            error,
            f"{component.header} can't be built: `{component.path}` raised",
            remedy=f"check {component.args_header}",
            notes=(f"named in: {checked.origin}",),
        ) from error
    if isinstance(made, nn.Module) and not hasattr(made, "_modules"):
        raise BuildError(
            f"{component.header} can't be used: `{type(made).__name__}.__init__` does not call `super().__init__()`",
            remedy="call it in the first line of `__init__`",
            notes=(f"named in: {checked.origin}", *checked.resolved.notes),
        )
    return made


def _build_nested(value: Any, key: KeyPath, owner: CheckedComponent, injected: Mapping[str, Any]) -> Any:
    """Copies a value within the arguments of `owner`, and builds each component in it."""
    if inner := owner.nested.get(key):
        # A nested component gets an injected argument only if its signature names that argument. A function with
        # `**kwargs`, for example, does not get the injected arguments.
        made = build_component(inner, {name: each for name, each in injected.items() if _takes(inner, name)})
        if not inner.field:
            return made
        return {inner.field: made, **{name: entry for name, entry in value.items() if name not in ("path", "args")}}
    if isinstance(value, list):
        return [_build_nested(item, (*key, index), owner, injected) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {name: _build_nested(item, (*key, name), owner, injected) for name, item in value.items()}
    return value
