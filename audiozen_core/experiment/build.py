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
from audiozen_core.distributed.ranks import ALONE, Ranks
from audiozen_core.errors import BuildError, DataError
from audiozen_core.experiment.component import build_component, takes
from audiozen_core.experiment.model_options import apply_options
from audiozen_core.experiment.parameter_groups import ParameterGroups, check_group_rates
from audiozen_core.experiment.part_parameters import (
    check_registered,
    check_untrained,
    decide_training,
    with_held_modules,
)
from audiozen_core.experiment.placement import move_to_device, shard_components, with_synchronised_norms
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.kinds import KINDS, Mode, section_name
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.frozen_weights import FrozenWeights
from audiozen_core.trainer.scheduler import Scheduler

# Components of these kinds need components of earlier kinds, so they are built in this order. The injected arguments of
# other kinds are settings of `[acoustics]`.
_BUILT_ONE_BY_ONE = ("model", "loss_function", "optimizer", "lr_scheduler", "trainer")

Loaders = dict[Mode, list[BatchLoader]]
"""The loaders of each mode, one for each data set of an evaluation."""


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
            optimiser makes torch import its compiler, which takes much memory.
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
            parts[suffix] = move_to_device(sections[kind][suffix], part, device)
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
            check_group_rates(section, optimizers[suffix], rates)
        schedulers[suffix] = Scheduler(scheduler, section.interval, section.section)
    others = {
        kind: {
            suffix: _other(checked, section, built(section, **_settings(checked, kind)), device)
            for suffix, section in of_kind.items()
        }
        for kind, of_kind in sections.items()
        if kind not in _BUILT_ONE_BY_ONE
    }
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


def _settings(checked: CheckedConfig, kind: str) -> dict[str, Any]:
    """Returns the settings of `[acoustics]` that AudioZEN passes to components of a kind."""
    return {name: getattr(checked.config.acoustics, name) for name in KINDS[kind].injected}


def _other(checked: CheckedConfig, section: Component, part: Any, device: torch.device) -> Any:
    """Checks that a component has no trainable parameters, and moves it to the device if it is a module.

    It is called for kinds outside `_BUILT_ONE_BY_ONE`, whose parameters no optimiser trains.
    """
    with _located(checked, section):
        check_untrained(section, part)
    return move_to_device(section, part, device)


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
        made = found.build(args)
        checked_class = type(made) is found.target
        plugins.append(Plugin(found.entry.name, made, "default", found.entry.distribution, checked=checked_class))
    for name, hook in named_hooks(checked.config.hooks):
        component = checked.component(hook)
        span = checked.composition.origin(hook.key).key_span
        origin = f"{span.file.name}:{span.line}"
        made = build_component(component)
        checked_class = type(made) is component.target  # not the class of a hook that a function returns
        plugins.append(Plugin(name, made, origin, component.distribution, hook_path(hook), checked=checked_class))
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
        injected = {"sr": config.acoustics.sr} if takes(checked.component(section), "sr") else {}
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


def _check_rate(section: DatasetComponent, dataset: Any, sr: int) -> None:
    """Raises an error if a data set's sample rate differs from `sr`, because the results would be mislabelled."""
    rate = getattr(dataset, "sr", sr)
    if isinstance(rate, int) and rate != sr:
        raise BuildError(
            f"{section.header} has audio of {rate} Hz, but [acoustics] says `sr = {sr}`",
            code=config_codes.NUMBERS_DISAGREE,
            remedy=f"set `sr` to the rate of your files in both [acoustics] and {section.args_header}",
        )
