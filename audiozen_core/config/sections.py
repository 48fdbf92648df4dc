"""The sections of an experiment's TOML file, as dataclasses. This module does not import torch.

The fields, their types and their defaults define what a section may contain, and files are checked against them. The
`metadata` of a field hold its `doc`, and rules that a type can't express, such as `pattern` and `choices`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.binding.ranges import Natural, Positive, Range
from audiozen_core.binding.settings import setting
from audiozen_core.diagnostics.key_path import KeyPath
from audiozen_core.distributed.settings import Distributed
from audiozen_core.kinds import Mode
from audiozen_core.launcher.settings import Launcher

# Marks a field that is not a key of the table. `key` holds the key path of the table. `args` holds all keys of the
# table that are not fields.
_INTERNAL = {"internal": True}


AUTO: Literal["auto"] = "auto"
"""The value of `num_threads` that makes AudioZEN measure which number of threads is fastest."""

DEVICES = r"auto|cpu|mps|cuda(:\d+)?"
"""Matches the valid names of devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """The section `[meta]`."""

    save_dir: str = setting("the folder that holds the runs: logs, checkpoints and enhanced audio")
    id: str | None = setting(
        "the experiment's ID, which names the folder of its run; by default the file's name without its ending",
        default=None,
        pattern=r"[\w.\- ]*\w[\w.\- ]*",
    )
    import_from: list[str] | None = setting(
        "the folders that come first on the import path; by default the file's folder and its parent", default=None
    )
    requires: list[str] = setting(
        'the distributions that must be installed, with their versions: `["audiozen-plugin-acme>=1"]`',
        default_factory=list,
    )
    seed: Natural = setting("the seed of every random number generator", default=0)
    use_amp: bool = setting("train in automatic mixed precision", default=False)
    use_deterministic_algorithms: bool = setting(
        "use deterministic algorithms only: slower, but repeatable", default=False
    )
    device: str = setting(
        "the device to run on: `auto`, `cpu`, `cuda`, `cuda:1` or `mps`",
        default="auto",
        pattern=DEVICES,
        choices=("auto", "cpu", "cuda", "mps"),
    )
    num_threads: Annotated[int, Range(least=1, most=1024)] | Literal["auto"] | None = setting(
        "the number of CPU threads; `auto` measures which number is fastest; by default, torch chooses", default=None
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """A part of the experiment. `key` is the key path of its table, such as `("validate_dataset", 0)`."""

    path: str = setting("the name of an installed component, or a dotted import")
    args: dict[str, Any] = setting("the arguments of the component", default_factory=dict)
    key: KeyPath = field(default=(), metadata=_INTERNAL)

    @property
    def section(self) -> str:
        """The name of the section, with its suffix."""
        return str(self.key[0])

    @property
    def header(self) -> str:
        """The header of the component's table, for messages: `[model.args.encoder]`, `[validate_dataset.0]`."""
        return f"[{'.'.join(map(str, self.key))}]"

    @property
    def args_header(self) -> str:
        """The header of the component's arguments table, for messages: `[model.args]`."""
        return f"[{'.'.join(map(str, (*self.key, 'args')))}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class InitialWeights:
    """The table `[model.init]`: the weights that a new training starts from. `key` is its key path."""

    path: str = setting("a run folder, the folder of a checkpoint, or a .safetensors file")
    owner: str | None = setting(
        "the model in the checkpoint whose weights to load; by default the one with the name of this section, or the "
        "only one",
        default=None,
    )
    prefix: str = setting(
        "load only the tensors whose names begin with this prefix, such as `generator`, and remove the prefix",
        default="",
    )
    map: dict[str, str] = setting(
        'renamed tensors: `{enc = "encoder"}` loads `enc.0.weight` into `encoder.0.weight`', default_factory=dict
    )
    exclude: str | list[str] = setting(
        "patterns of the weights that keep their initial values, such as `head.*`", default_factory=list
    )
    strict: bool = setting(
        "whether the file must have all other weights in the same shapes, and no tensors besides them", default=True
    )
    key: KeyPath = field(default=(), metadata=_INTERNAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelComponent(Component):
    """A section `[model]`."""

    kind: ClassVar = "model"

    init: InitialWeights | None = setting(
        "the weights that a new training starts from, a table with `path`", default=None
    )
    compile: bool | dict[str, Any] = setting(
        "whether to compile the network with `torch.compile`; a table holds its arguments, such as `mode`",
        default=False,
    )
    gradient_checkpointing: str | list[str] = setting(
        "patterns of modules, such as `blocks.*`, that recompute their forward pass to save memory",
        default_factory=list,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ParameterGroup:
    """An entry of `[[optimizer.groups]]`.

    `args` holds all other keys of the table, which are arguments of the optimiser. `key` is the key path of the table.
    """

    match: str | list[str] = setting(
        "patterns for the names of the parameters, such as `encoder.*`; `*` also matches dots"
    )
    freeze: bool | None = setting("whether the parameters keep their values", default=None)
    unfreeze_epoch: Annotated[int, Range(least=2)] | None = setting(
        "the first epoch, counted from 1, in which the parameters are trained", default=None
    )
    args: dict[str, Any] = field(default_factory=dict, metadata=_INTERNAL)
    key: KeyPath = field(default=(), metadata=_INTERNAL)

    @property
    def header(self) -> str:
        """The name of the group in messages: `[optimizer.groups.0]`."""
        return f"[{'.'.join(map(str, self.key))}]"

    @property
    def patterns(self) -> list[str]:
        """The patterns, as a list."""
        return [self.match] if isinstance(self.match, str) else self.match

    @property
    def name(self) -> str:
        """The name of the group in records, derived from its first pattern: `encoder` for `encoder.*`."""
        return re.sub(r"\W+", "_", self.patterns[0]).strip("_") or "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerComponent(Component):
    """A section `[optimizer]`."""

    kind: ClassVar = "optimizer"

    groups: list[ParameterGroup] = setting(
        "groups of parameters that have their own arguments or are frozen", default_factory=list
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LossComponent(Component):
    """A section `[loss_function]`."""

    kind: ClassVar = "loss_function"

    trainable: bool | None = setting(
        "whether the optimiser with the same suffix trains the parameters of the loss; must be set if the loss has any",
        default=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerComponent(Component):
    """A section `[lr_scheduler]`."""

    kind: ClassVar = "lr_scheduler"

    interval: Literal["epoch", "step"] | None = setting(
        "whether the scheduler steps after each `epoch` or after each optimiser `step`; by default the attribute "
        "`interval` of its class, or else `epoch`",
        default=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HookComponent(Component):
    """An entry of `[[hooks]]`."""

    kind: ClassVar = "hooks"

    enabled: bool = setting("false switches off a hook that would run by default", default=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataloader:
    """A data set's `dataloader` table: how samples become batches."""

    batch_size: Positive = setting("the number of samples in a batch", default=1)
    shuffle: bool | None = setting("whether to shuffle; by default in training only", default=None)
    # Each worker is a process. The maximum prevents a typing error from starting so many processes that the computer
    # hangs.
    num_workers: Annotated[int, Range(least=0, most=1024)] = setting(
        "the number of loading processes; 0 loads in the main process", default=0
    )
    drop_last: bool = setting("leave out the last batch of an epoch if it is not full", default=False)
    pin_memory: bool | None = setting("pin the memory of batches; by default if a GPU is available", default=None)
    prefetch_factor: Positive | None = setting("the number of batches that each worker loads ahead", default=None)
    persistent_workers: bool | None = setting(
        "whether to keep the workers between epochs; by default they are kept", default=None
    )
    timeout: Annotated[float, Range(least=0, most=1_000_000)] = setting(
        "the seconds to wait for a batch from the workers; 0 waits forever", default=0.0
    )
    collate_fn: Component | None = setting("the path of the function that combines samples into a batch", default=None)
    sampler: Component | None = setting("the path of the sampler, which gets the argument `data_source`", default=None)
    batch_sampler: Component | None = setting(
        "the path of a sampler of whole batches, instead of `batch_size`; it gets the argument `data_source`",
        default=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetComponent(Component):
    """A section `[dataset]`, `[validate_dataset]`, …, or one entry of an array of these sections."""

    kind: ClassVar = "dataset"

    name: str | None = setting(
        "the data set's name in records, tables and result folders; by default its index, from 0",
        default=None,
        pattern=r"[\w.\-]*\w[\w.\-]*",
    )
    dataloader: Dataloader = setting("how samples become batches", default_factory=Dataloader)

    @property
    def dataloader_header(self) -> str:
        """The header of the data set's `dataloader` table, for messages: `[dataset.dataloader]`."""
        return f"[{'.'.join(map(str, (*self.key, 'dataloader')))}]"


def dataset_names(datasets: Mapping[Mode, Sequence[DatasetComponent]]) -> dict[Mode, tuple[str, ...]]:
    """Returns the names of data sets by mode. The name of a data set is its key `name`, or else its index, from 0."""
    return {
        mode: tuple(dataset.name or str(index) for index, dataset in enumerate(of_mode))
        for mode, of_mode in datasets.items()
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class ExperimentConfig:
    """One experiment: everything in its TOML file, composed and checked.

    Attributes:
        id: the experiment's ID: `meta.id`, or else the stem of the file.
        file: the absolute path of the TOML file.
        meta: the section `[meta]`.
        acoustics: the section `[acoustics]`.
        distributed: the section `[distributed]`.
        launcher: the section `[launcher]`.
        components: the sections with one object each, by kind, such as `model`, and then by suffix, which is `""` for
            `[model]` and `"g"` for `[model_g]`. Each optimiser has a model with the same suffix, and each scheduler an
            optimiser with the same suffix.
        datasets: the data sets by mode; a mode without a section has an empty list.
        hooks: the entries of `[[hooks]]`, in order, including disabled hooks.
        text: the effective config as TOML, without `extends` and references. Loading it gives the same experiment.
    """

    id: str
    file: Path
    meta: Meta
    acoustics: Acoustics
    distributed: Distributed
    launcher: Launcher
    components: dict[str, dict[str, Component]]
    datasets: dict[Mode, list[DatasetComponent]]
    hooks: list[HookComponent]
    text: str

    @property
    def dataset_names(self) -> dict[Mode, tuple[str, ...]]:
        """The names of the data sets by mode. The name of a data set is its key `name`, or else its index."""
        return dataset_names(self.datasets)

    @property
    def trainer(self) -> Component:
        """The section `[trainer]`."""
        return self.components["trainer"][""]
