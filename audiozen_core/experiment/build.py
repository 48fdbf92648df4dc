"""From a checked config to built objects: networks, optimisers, data, hooks."""

from __future__ import annotations

import functools
import inspect
import os
import random
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import ConcatDataset

from audiozen_core.binding.arguments import build
from audiozen_core.binding.signature import signature_of
from audiozen_core.binding.values import is_component
from audiozen_core.config.composition import Composition
from audiozen_core.config.sections import (
    Component,
    Dataloader,
    DatasetComponent,
    ExperimentConfig,
    Meta,
    SchedulerComponent,
)
from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import AudioZenError, BuildError
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.registry.index import FIRST_PARTY, installed_index
from audiozen_core.registry.paths import Resolved, resolve
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.scheduler import Scheduler

# These are built from each other; the trainer, which is given all of them, comes last.
_BUILT_ONE_BY_ONE = ("model", "loss_function", "optimizer", "lr_scheduler", "trainer")

_OWN = f"{FIRST_PARTY}:"


def prepare_process(meta: Meta) -> torch.device:
    """Sets what holds for the whole process (seeds, threads, determinism) and gives the device."""
    seed_generators(meta.seed)
    # Numbers next to zero slow a CPU down many times, and no result needs them.
    torch.set_flush_denormal(True)
    if meta.num_threads is not None:
        torch.set_num_threads(meta.num_threads)
    if meta.use_deterministic_algorithms:
        # What cuBLAS wants to be deterministic; it reads this when CUDA starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(meta.use_deterministic_algorithms)
    torch.backends.cudnn.deterministic = meta.use_deterministic_algorithms
    name = meta.device if meta.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise BuildError(
            f'`device = "{name}"` can\'t be used here: {str(error).splitlines()[0]}',
            remedy='set `device = "auto"` in [meta]',
        ) from error
    return device


def seed_generators(seed: int) -> None:
    """Seeds the global generators of Python, NumPy and Torch, those of all GPUs included."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def build_components(config: ExperimentConfig, lifecycle: Lifecycle, folder: Path, device: torch.device) -> Components:
    """Builds the networks, losses, optimisers and schedulers of an experiment.

    Raises:
        BuildError: a constructor refused; the error names the section.
    """

    def built(component: Component, **injected: Any) -> Any:
        return lifecycle.wrap_component(component.section, build_component(component, injected))

    parts = config.parts
    models = {suffix: built(part).to(device) for suffix, part in parts["model"].items()}
    losses = {suffix: built_loss(lifecycle, part, device) for suffix, part in parts["loss_function"].items()}
    optimizers = {
        suffix: built(part, params=models[suffix].parameters()) for suffix, part in parts["optimizer"].items()
    }
    for suffix, optimizer in optimizers.items():
        _check_step(parts["optimizer"][suffix], optimizer)
    schedulers = {}
    for suffix, part in parts["lr_scheduler"].items():
        assert isinstance(part, SchedulerComponent)  # the schema reads these sections into that
        schedulers[suffix] = Scheduler(built(part, optimizer=optimizers[suffix]), part.interval)
    others = {
        kind: {suffix: built(part) for suffix, part in found.items()}
        for kind, found in parts.items()
        if kind not in _BUILT_ONE_BY_ONE
    }
    return Components(
        models=models,
        loss_functions=losses,
        optimizers=optimizers,
        lr_schedulers=schedulers,
        others=others,
        acoustics=config.acoustics,
        folder=folder,
        experiment=config.id,
        device=device,
        seed=config.meta.seed,
        use_amp=config.meta.use_amp,
        lifecycle=lifecycle,
        config_text=config.text,
    )


def _check_step(part: Component, optimizer: Optimizer) -> None:
    """Refuses an optimiser that wants to call the loss itself, such as LBFGS."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    if closure is not None and closure.default is closure.empty:
        raise BuildError(
            f"[{part.section}] {type(optimizer).__name__} evaluates the loss several times a step, by a closure, which "
            "no trainer gives it",
            remedy="use an optimiser that steps on gradients, such as torch.optim.RAdam",
        )


def built_loss(lifecycle: Lifecycle, part: Component, device: torch.device) -> Callable[..., Any]:
    """A loss is a module or class to build, or a plain function such as `torch.nn.functional.mse_loss` to call."""
    target = resolve(part.path, section=part.section).target
    if not isinstance(target, type):
        function = functools.partial(target, **part.args) if part.args else target
        wrapped: Callable[..., Any] = lifecycle.wrap_component(part.section, function)
        return wrapped
    loss: Callable[..., Any] = lifecycle.wrap_component(part.section, build_component(part))
    return loss.to(device) if isinstance(loss, nn.Module) else loss


def default_hooks(named: Collection[str] = ()) -> list[Plugin]:
    """Builds the hooks that take part without being named: AudioZEN's own whose class says `default = True`.

    A hook of another distribution has to be named, so that installing a package never changes an experiment.

    Args:
        named: the hooks that the TOML names, to replace them or to switch them off.
    """
    plugins = []
    for entry in installed_index().entries("hooks"):
        if entry.distribution == FIRST_PARTY and entry.name not in named:
            # By its full spelling, because another plugin may bring a hook of the same name.
            hook = resolve(entry.spelling, section="hooks").target
            if getattr(hook, "default", False):
                args = getattr(hook, "default_args", {})
                plugins.append(Plugin(entry.name, build(hook, args), "default", entry.distribution))
    return plugins


def build_lifecycle(config: ExperimentConfig, composition: Composition | None = None) -> Lifecycle:
    """The hooks: those of the TOML, and the default ones that it does not replace or switch off.

    Args:
        config: the experiment.
        composition: where its values come from; with it, errors name the line of a hook.
    """
    names = [part.path.removeprefix(_OWN) for part in config.hooks]
    plugins = default_hooks(named=names)
    for place, part in enumerate(config.hooks):
        if part.enabled:
            found = resolve(part.path, section="hooks")
            earlier = zip(names[:place], config.hooks, strict=False)
            twins = [name for name, other in earlier if other.enabled].count(names[place])
            name = f"{names[place]}_{twins + 1}" if twins else names[place]
            origin = f"{config.file.name}, [[hooks]]"
            if composition is not None:
                span = composition.origin(part.key).key_span
                origin = f"{span.file.name}:{span.line}"
            plugins.append(Plugin(name, build_component(part), origin, _owner(found)))
    return Lifecycle(plugins)


def build_loader(
    parts: Sequence[DatasetComponent], lifecycle: Lifecycle, *, train: bool, meta: Meta, sr: int, cuda: bool
) -> BatchLoader:
    """Builds data sets, joined into one, and what makes batches of it by the first one's table `dataloader`."""
    datasets = [lifecycle.wrap_component(part.section, build_component(part)) for part in parts]
    for part, found in zip(parts, datasets, strict=True):
        _check_rate(part, found, sr)
    dataset = datasets[0]
    if len(datasets) > 1:
        dataset = ConcatDataset(datasets)
    table: Dataloader = parts[0].dataloader
    own_collate_fn = getattr(datasets[0], "collate_fn", None)
    options: dict[str, Any] = {}
    if table.num_workers:
        options = {"prefetch_factor": table.prefetch_factor, "timeout": table.timeout}
        if table.persistent_workers is not None:
            options["persistent_workers"] = table.persistent_workers
    loader = BatchLoader(
        dataset,
        batch_size=table.batch_size,
        shuffle=train if table.shuffle is None else table.shuffle,
        num_workers=table.num_workers,
        drop_last=table.drop_last,
        pin_memory=cuda if table.pin_memory is None else table.pin_memory,
        collate_fn=_collate_fn(table.collate_fn) if table.collate_fn else own_collate_fn,
        sampler=build_component(table.sampler, {"data_source": dataset}) if table.sampler else None,
        seed=meta.seed,
        **options,
    )
    wrapped: BatchLoader = lifecycle.wrap_component(f"{parts[0].section}.dataloader", loader)
    return wrapped


def _check_rate(part: DatasetComponent, dataset: Any, sr: int) -> None:
    """A data set that tells its rate must have that of the experiment: else results would be labelled wrongly."""
    own = getattr(dataset, "sr", sr)
    if isinstance(own, int) and own != sr:
        where = ".".join(map(str, part.key))
        raise BuildError(
            f"[{where}] gives audio of {own} Hz, but [acoustics] says `sr = {sr}`",
            remedy=f"set `sr` to the rate of your files in both: [acoustics] and [{where}.args]",
        )


def build_component(part: Component, injected: Mapping[str, Any] | None = None) -> Any:
    """Builds one part: what `path` names, called with `args`; tables with a `path` inside `args` are built first.

    Args:
        part: the part.
        injected: what AudioZEN gives besides, to whatever takes it by name.

    Raises:
        BuildError: the constructor raised.
    """
    target = resolve(part.path, section=part.section).target
    args = {name: _nested(value, injected or {}) for name, value in part.args.items()}
    try:
        return build(target, args, injected)
    except AudioZenError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"raised in: {last.filename}:{last.lineno}, in {last.name}"
        where = ".".join(map(str, part.key))
        raise BuildError(
            f"[{where}] can't be built: `{part.path}` raised {type(error).__name__}: {error}",
            remedy=f"look at [{where}.args]; `--traceback` shows the whole way to the error",
            notes=(place,),
        ) from error


def _nested(value: Any, injected: Mapping[str, Any]) -> Any:
    if isinstance(value, list):
        return [_nested(item, injected) for item in value]
    if not isinstance(value, Mapping):
        return value
    inner = {name: _nested(item, injected) for name, item in value.items()}
    if is_component(value):
        target = resolve(value["path"]).target
        # Only what it asks for by name: something that takes any keyword has not asked for an optimiser.
        signature = signature_of(target)
        wanted = {name: given for name, given in injected.items() if signature and name in signature.names()}
        return build(target, inner.get("args", {}), wanted)
    return inner


def _collate_fn(part: Component) -> Callable[[list[Any]], Any]:
    target = resolve(part.path).target
    if isinstance(target, type):
        made: Callable[[list[Any]], Any] = build_component(part)
        return made
    return functools.partial(target, **part.args) if part.args else target


def _owner(found: Resolved) -> str:
    return found.entry.distribution if found.entry else ""
