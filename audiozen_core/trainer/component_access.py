"""Sets the attributes that every trainer has: its components, its log, and its progress."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn

from audiozen_core.audio.acoustics import Acoustics, contradictions, declared_acoustics
from audiozen_core.audio.stft import Stft
from audiozen_core.diagnostics.listed import listed
from audiozen_core.distributed.sharding import sharded_units
from audiozen_core.errors import RunError
from audiozen_core.hooks.progress import Progress
from audiozen_core.kinds import Mode, section_name
from audiozen_core.logging import get_logger
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.held_modules import held_modules
from audiozen_core.trainer.input_copies import copy_inputs, protect_inputs, report_changed_inputs
from audiozen_core.trainer.losses import follow_mode
from audiozen_core.trainer.module_state import unwrapped
from audiozen_core.trainer.part_errors import translate_method_errors
from audiozen_core.trainer.participants import Participants
from audiozen_core.trainer.scheduler import Scheduler
from audiozen_core.trainer.weight_choice import WeightChoice

_Part = TypeVar("_Part")


class ComponentAccess:
    """Makes the components available as attributes.

    For each kind of component, an attribute such as `models` maps suffixes to components. If an experiment has only one
    component of a kind, this component is also available under a short name, such as `model`.

    Attributes:
        models: the networks by suffix. If an experiment has only one network, the suffix is "".
        loss_functions: the loss functions by suffix.
        optimizers: the optimisers by suffix.
        lr_schedulers: the learning-rate schedulers by suffix.
        others: all other components, as `others[kind][suffix]`.
        sections: the sections that plugins define, by name; see `Trainer`.
        hooks: every hook as a callable: `self.hooks.on_log(trainer=self, …)`.
        device: the device of the networks.
        is_sharded: whether each rank has only a share of the weights.
        folder: the run's directory, such as `exp/baseline`.
        experiment: the experiment ID, such as `baseline`.
        seed: the seed of the run.
        use_amp: whether automatic mixed precision is on.
        config_text: the effective config as TOML.
        acoustics: the settings of `[acoustics]`. `sr`, `n_fft`, `hop_length` and `win_length` are also attributes of
            the trainer.
        stft: transforms waveforms to spectrograms, with the settings of `[acoustics]`; see `Stft.transform`.
        istft: transforms spectrograms to waveforms; see `Stft.inverse`.
        log: a structlog logger.
        progress: the progress of the run.
        weights: the choice between the trained weights and the weights that hooks offer for evaluations, such as their
            moving average.
        batch_size: the number of samples in a batch; None if a `batch_sampler` decides it.
        start_is_unsaved: whether the run started from a state that its own checkpoints don't contain, as in finetuning.
        checkpoint_name: in validation, test and prediction, the checkpoint whose weights are used, such as
            `best_epoch_0012`; "" if the weights were not loaded from a checkpoint.
    """

    def __init__(self, components: Components) -> None:
        self.models: Mapping[str, nn.Module] = BySuffix("model", components.models)
        self.participants = Participants()
        losses = {suffix: protect_inputs(loss) for suffix, loss in components.loss_functions.items()}
        self.loss_functions: Mapping[str, Callable[..., Any]] = BySuffix("loss_function", losses)
        for suffix, model in self.models.items():
            copy_inputs(model)
            report_changed_inputs(model, f"[{section_name('model', suffix)}]")
            self.participants.watch(section_name("model", suffix), model)
        for suffix, loss in losses.items():
            self.participants.watch(section_name("loss_function", suffix), loss)
        self._loss_scalars = {suffix: _reader_of(loss, "recorded_scalars") for suffix, loss in losses.items()}
        self.optimizers: Mapping[str, torch.optim.Optimizer] = BySuffix("optimizer", components.optimizers)
        self._frozen_weights = components.frozen_weights
        self.lr_schedulers: Mapping[str, Scheduler] = BySuffix("lr_scheduler", components.lr_schedulers)
        self.others = {kind: BySuffix(kind, parts) for kind, parts in components.others.items()}
        self.hooks = components.lifecycle
        self.device = components.device
        self.ranks = components.ranks
        self.is_sharded = self.ranks.several and bool(sharded_units(self.modules.values()))
        self.folder = components.folder
        self.experiment = components.experiment
        self.seed = components.seed
        self.use_amp = components.use_amp
        self.config_text = components.config_text
        self.acoustics = components.acoustics
        for model in self.models.values():
            _check_acoustics(model, self.acoustics)
        self.sections = components.sections
        self.sr, self.n_fft = self.acoustics.sr, self.acoustics.n_fft
        self.hop_length, self.win_length = self.acoustics.hop_length, self.acoustics.win_length
        transform = Stft(self.acoustics)
        self.stft, self.istft = transform.transform, transform.inverse
        self.log = get_logger()
        self.progress = Progress()
        self.weights = WeightChoice()
        self.batch_size: int | None = None
        self.start_is_unsaved = False
        self.checkpoint_name = ""
        self._dataset_names = components.dataset_names
        self._switched_off: list[nn.Module] = []
        self._stays_in_training: set[str] = set()
        self._left_training: set[str] = set()

    def dataset_name(self, mode: Mode, dataloader_idx: int) -> str:
        """Returns the `name` of a data set in the TOML file; its index if it has no name."""
        names = self._dataset_names.get(mode, ())
        return names[dataloader_idx] if dataloader_idx < len(names) else str(dataloader_idx)

    @property
    def modules(self) -> dict[str, nn.Module]:
        """All networks, and all loss functions that are modules, by section: `model`, `loss_function_g`."""
        networks = {section_name("model", suffix): model for suffix, model in self.models.items()}
        losses = {section_name("loss_function", suffix): loss for suffix, loss in self.loss_functions.items()}
        return networks | {section: loss for section, loss in losses.items() if isinstance(loss, nn.Module)}

    @property
    def state_device(self) -> torch.device:
        """The device that checkpoints are loaded to. With sharded networks, it is the CPU, to save GPU memory."""
        return torch.device("cpu") if self.is_sharded else self.device

    def modules_of(self, suffix: str) -> dict[str, nn.Module]:
        """Returns, by section, the network with a suffix, and the loss function with this suffix if it is a module."""
        sections = section_name("model", suffix), section_name("loss_function", suffix)
        return {section: module for section, module in self.modules.items() if section in sections}

    def set_mode(self, *, training: bool) -> None:
        """Switches all networks and losses, and all modules that the trainer holds, to training or evaluation mode.

        A module that the trainer holds stays in evaluation mode if the user has switched it to evaluation mode, or if
        all of its parameters are frozen. With `training=True`, this method also unfreezes weights that were frozen only
        until the current epoch.

        Raises:
            RunError: a network or a loss can't be switched.
        """
        if training:
            self._frozen_weights.begin_epoch(self.progress.epoch + 1)
        for suffix, model in self.models.items():
            with translate_method_errors(section_name("model", suffix), model, "train"):
                model.train(training)
        for suffix, loss in self.loss_functions.items():
            if isinstance(loss, nn.Module):
                with translate_method_errors(section_name("loss_function", suffix), loss, "train"):
                    follow_mode(loss, training=training)
        if training:
            self._frozen_weights.hold_statistics(self.modules.values())
        if not training:
            self._warn_if_training()
        for part in self._switched_off if training else ():
            part.training = True
        self._switched_off.clear()
        # Modules that belong to the hooks or to the state registry are left alone.
        excluded = (self.hooks, vars(self).get("state"), *self.modules.values())
        for module in held_modules(self, excluded).values():
            frozen = not any(weight.requires_grad for weight in module.parameters())
            if not training:
                self._switched_off += [part for part in module.modules() if part.training]
            if not training or (frozen and next(module.parameters(), None) is not None):
                module.eval()

    @contextmanager
    def kept_modes(self) -> Iterator[None]:
        """Switches back to training after the block, and restores the mode that each module had before the block.

        A hook may have put a part of a network into evaluation mode in order to freeze it.
        """
        modes = [(part, part.training) for module in self.modules.values() for part in module.modules()]
        yield
        self.set_mode(training=True)
        for part, training in modes:
            part.training = training

    def take_loss_scalars(self) -> dict[str, torch.Tensor]:
        """Returns and clears the scalars that the losses have recorded, such as the terms of a sum: `loss/si_snr`.

        A loss records scalars in its attribute `recorded_scalars`, a dict. The scalars of [loss_function_g] are named
        `loss_g/…`. In training, AudioZEN records them together with the results of the step. An evaluation step must
        call this method itself.
        """
        scalars: dict[str, torch.Tensor] = {}
        for suffix, recorded_by in self._loss_scalars.items():
            recorded = recorded_by()
            if isinstance(recorded, dict):
                scalars |= {f"{section_name('loss', suffix)}/{name}": value for name, value in recorded.items()}
                recorded.clear()
        return scalars

    def _warn_if_training(self) -> None:
        """Warns once about each network or loss that is still in training mode after the switch to evaluation mode."""
        for section, module in self.modules.items():
            on = [name or "itself" for name, part in module.named_modules() if part.training]
            if on and section not in self._stays_in_training:
                self._stays_in_training.add(section)
                self.log.warning(
                    f"[{section}] stays in training mode in an evaluation: dropout is active, and running statistics "
                    "change",
                    modules=listed(on),
                    remedy="call `super().train(mode)` in its method `train(self, mode=True)`",
                )

    def _warn_if_evaluating(self, in_training: Sequence[str]) -> None:
        """Warns once about each network or loss that left training mode during an epoch."""
        for section in in_training:
            if not self.modules[section].training and section not in self._left_training:
                self._left_training.add(section)
                self.log.warning(
                    f"[{section}] is in evaluation mode at the end of a training epoch: a hook or the trainer called "
                    "`eval()` during the epoch, which disables dropout and the update of running statistics",
                    remedy="call `train()` afterwards; to freeze a part of a network, call `eval()` of that part only",
                )

    @property
    def model(self) -> nn.Module:
        """The network of an experiment with one network. Raises RunError if there are several."""
        models = self.models
        return models[""] if "" in models else _only(models, "model", "models")

    @property
    def loss_function(self) -> Callable[..., Any]:
        """The loss function of an experiment with one loss function. Raises RunError if there are several, or none."""
        losses = self.loss_functions
        return losses[""] if "" in losses else _only(losses, "loss_function", "loss_functions")

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimiser of an experiment with one optimiser. Raises RunError if there are several, or none."""
        return _only(self.optimizers, "optimizer", "optimizers")

    @property
    def lr_scheduler(self) -> Any:
        """The learning-rate scheduler of an experiment that has one network; None without a scheduler."""
        return _only(self.lr_schedulers, "lr_scheduler", "lr_schedulers").scheduler if self.lr_schedulers else None


class BySuffix(dict[str, _Part]):
    """The components of a kind by suffix. For an unknown suffix, it raises a RunError that names the existing ones.

    Args:
        kind: the section without a suffix, such as `model`.
        parts: the components.
    """

    def __init__(self, kind: str, parts: Mapping[str, _Part]) -> None:
        super().__init__(parts)
        self.kind = kind

    def __missing__(self, suffix: str) -> _Part:
        sections = ", ".join(f"`{suffix}` of [{section_name(self.kind, suffix)}]" for suffix in sorted(self))
        raise RunError(
            f"the experiment has no [{section_name(self.kind, str(suffix))}]",
            notes=(f"suffixes: {sections or f'it has no [{self.kind}]'}",),
            remedy="use one of these suffixes, or add the section",
        )


def _reader_of(part: Callable[..., Any], name: str) -> Callable[[], Any]:
    """Returns a function that reads an attribute of a loss, or returns None if the loss does not have the attribute.

    If an attribute is missing, `nn.Module.__getattr__` searches the parameters, buffers and submodules, and raises an
    error. This is too slow for every step. Reading the `__dict__` avoids it, unless the class of the loss defines the
    attribute or a `__getattr__` of its own.
    """
    owner = unwrapped(part) if isinstance(part, nn.Module) else part
    finds_others = type(owner).__getattr__ is not nn.Module.__getattr__ if isinstance(owner, nn.Module) else True
    if finds_others or hasattr(type(owner), name):
        return lambda: getattr(owner, name, None)
    return partial(owner.__dict__.get, name)


def _only(parts: Mapping[str, _Part], section: str, attribute: str) -> _Part:
    """Returns the component without a suffix.

    Raises:
        RunError: all components have a suffix, or there are none.
    """
    if "" in parts:
        return parts[""]
    suffixes = sorted(parts)
    only = f", only {', '.join(f'[{section_name(section, suffix)}]' for suffix in suffixes)}" if suffixes else ""
    remedy = f"add a section [{section}]"
    if suffixes:
        remedy = f'use `self.{attribute}["{suffixes[0]}"]` in the trainer, or name the section [{section}]'
    raise RunError(f"the trainer uses `self.{section}`, but the experiment has no [{section}]{only}", remedy=remedy)


def _check_acoustics(model: nn.Module, acoustics: Acoustics) -> None:
    """Checks that the settings of `[acoustics]` match the settings that a network declares.

    `audiozen check` reads the declarations of the class only. An object can declare other settings than its class.

    Raises:
        RunError: a setting differs.
    """
    model = unwrapped(model)
    for name, (declared, other) in contradictions(declared_acoustics(model), acoustics).items():
        raise RunError(
            f"the model `{type(model).__name__}` declares `{name} = {declared!r}`, but [acoustics] has {other!r}",
            remedy=f"set `{name}` in [acoustics], or in the `acoustics` of the components, to the model's value",
        )
