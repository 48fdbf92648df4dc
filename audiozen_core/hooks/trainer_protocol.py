"""The attributes and methods of the trainer that hooks may use, as a contract with the authors of plugins.

    from audiozen import hookimpl
    from audiozen.hooks import Trainer

    class Announce:
        @hookimpl
        def on_epoch_end(self, trainer: Trainer, epoch: int) -> None:
            trainer.log.info(f"epoch {epoch} took {trainer.progress.batches} batches")

The type checker verifies that `BaseTrainer` satisfies the protocol. All other attributes of a trainer may change
without notice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from audiozen_core.hooks.nonfinite import NonFinitePolicy
from audiozen_core.hooks.progress import Progress
from audiozen_core.hooks.specs import Hooks

if TYPE_CHECKING:
    import torch
    from structlog.typing import FilteringBoundLogger

    from audiozen_core.distributed.ranks import Ranks
    from audiozen_core.kinds import Mode


@runtime_checkable
class Stateful(Protocol):
    """An object that can return its state and restore it."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the state, as tensors, numbers, strings and containers of these."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Restores what `state_dict` returned."""
        ...


class State(Protocol):
    """The registry of everything that a checkpoint contains."""

    def register(self, name: str, entry: Stateful) -> None:
        """Adds an object to the checkpoints, under a unique name."""
        ...


class Scalars(Protocol):
    """The scalars of the training steps of the current epoch.

    Attributes:
        per_batch: the scalars of each batch, oldest first. On a GPU, the scalars of the newest batches are missing,
            because reading them would stall the GPU.
        rates: the learning rates of the last optimiser step, by name, such as `lr`; empty before the first step.
        read_at_once: set this to True in `on_run_start` if your hook answers `on_nonfinite` with "skip". Each loss is
            then read before the weights are updated, which stalls a GPU.
    """

    per_batch: list[dict[str, float]]
    rates: Mapping[str, float | torch.Tensor]
    read_at_once: bool

    @property
    def last(self) -> Mapping[str, float]:
        """The newest scalars that have been read; empty before the first step."""
        ...


class Weights(Protocol):
    """The choice of weights for evaluations, such as an average; see `trainer.weights`."""

    chosen: str | None
    """The value of `--weights`: `raw`, or the name of weights that a hook offers; None lets the hooks choose."""

    def offer(self, name: str, use: Callable[[], None] | None = None) -> None:
        """Registers alternative weights that a hook provides for evaluations; call it in `on_setup`.

        Args:
            name: the name of the weights for `--weights`.
            use: a function that checks whether these weights are the ones to evaluate, and if so copies them into the
                networks for good. The function is called if a trained network is used outside a run, for example by
                `audiozen enhance --weights`.
        """
        ...


class Trainer(Protocol):
    """A trainer, as hooks see it.

    Attributes:
        models: the networks by suffix. If an experiment has only one network, the suffix is "".
        loss_functions: the loss functions by suffix.
        optimizers: the optimisers by suffix.
        device: the device of the networks.
        ranks: the processes of the run; see `Ranks`. A hook must write files on the main process only.
        folder: the run folder, such as `exp/baseline`.
        experiment: the experiment ID, such as `baseline`.
        seed: the seed of the run.
        sr: the sample rate of `[acoustics]`, in Hz.
        use_amp: whether automatic mixed precision is on.
        config_text: the effective config as TOML.
        checkpoint_name: in validation, test and prediction, the checkpoint whose weights are used, such as
            `best_epoch_0012`; "" if the weights are not from a checkpoint.
        start_is_unsaved: whether this run started from a state that is not in its own checkpoints, as in finetuning.
        log: a structlog logger.
        progress: the progress of the run.
        num_batches: the number of batches in an epoch; None if it is unknown.
        batch_size: the number of samples in a batch.
        loss_is_scaled: set this to True if your hook scales the loss. The trainer then does not check whether gradients
            are finite, because an overflow is normal.
        grad_norm: the norm of all gradients of the last optimiser step before clipping, a scalar on the device; None if
            the norm was not measured. The hook plugin that clips gradients sets it.
        max_epochs: this attribute and all attributes after it are arguments in `[trainer.args]`; see `BaseTrainer`.
    """

    models: Mapping[str, torch.nn.Module]
    loss_functions: Mapping[str, Callable[..., Any]]
    optimizers: Mapping[str, torch.optim.Optimizer]
    device: torch.device
    ranks: Ranks
    folder: Path
    experiment: str
    seed: int
    sr: int
    use_amp: bool
    config_text: str
    checkpoint_name: str
    start_is_unsaved: bool
    log: FilteringBoundLogger
    progress: Progress
    num_batches: int | None
    batch_size: int | None
    loss_is_scaled: bool
    grad_norm: torch.Tensor | None

    max_epochs: int
    max_steps: int | None
    patience: int | None
    validation_interval: int | None
    validation_interval_steps: int | None
    validation_interval_minutes: float | None
    steps_per_epoch: int | None
    clip_grad_norm_value: float | None
    plot_norm: bool
    gradient_accumulation_steps: int
    log_interval: int
    monitor: str
    save_max_score: bool
    save_ckpt_interval: int
    save_ckpt_interval_steps: int | None
    save_ckpt_minutes: float | None
    save_ckpt_async: bool
    max_num_checkpoints: int
    on_nonfinite: NonFinitePolicy
    max_nonfinite: int

    @property
    def hooks(self) -> Hooks[Trainer]:
        """Every hook as a callable: `trainer.hooks.on_log(trainer=trainer, …)`."""
        ...

    @property
    def data_seconds(self) -> float:
        """The time in seconds that training has waited for batches since the start of the program."""
        ...

    @property
    def part_seconds(self) -> Mapping[str, float]:
        """The time in seconds that each part of training has taken since the start of the program.

        The parts are `data`, `transfer`, `forward`, `backward`, `optimizer`, `rest` (hooks, checks, records) and
        `outside` (validations, and the time between epochs). The times are measured on the CPU. A GPU runs
        asynchronously, so its times differ; see `gpu_part_seconds`.
        """
        ...

    @property
    def gpu_part_seconds(self) -> tuple[Mapping[str, float], int]:
        """The seconds that a GPU has needed for each part of the measured steps, and the number of measured steps.

        One step in 16 is measured. Reading this property does not wait for the GPU. Without a GPU, nothing is measured.
        """
        ...

    @property
    def sections(self) -> Mapping[str, Any]:
        """The sections that plugins provide, by name: `trainer.sections["acme"]` is an object of its dataclass.

        If the TOML file lacks the section, `sections["acme"]` creates the object from the defaults of the dataclass.
        This raises a `RunError` if a field has no default, or if no plugin provides a section with this name.
        """
        ...

    @property
    def model(self) -> torch.nn.Module:
        """The network, if the experiment has exactly one."""
        ...

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        """The optimiser, if the experiment has exactly one."""
        ...

    @property
    def lr_scheduler(self) -> Any:
        """The learning-rate scheduler, if the experiment has exactly one network; None without a scheduler."""
        ...

    @property
    def state_device(self) -> torch.device:
        """The device to which checkpoints are loaded: the CPU if the device has only a part of the weights."""
        ...

    def trained_parameters(self, suffix: str) -> list[torch.Tensor]:
        """Returns the parameters that an optimiser trains: the parameters of a network and of its loss function."""
        ...

    def dataset_name(self, mode: Mode, dataloader_idx: int) -> str:
        """Returns the name of a data set: the key `name` in the TOML file, or else the index of the data set."""
        ...

    def measure_gradients(self) -> dict[str, torch.Tensor]:
        """Returns the norm of the current gradients of each network and its loss function, by suffix.

        The norms are scalars on the device. A network without gradients is left out.
        """
        ...

    @property
    def state(self) -> State:
        """The registry of the state in checkpoints. Register your own state in `on_setup`."""
        ...

    @property
    def weights(self) -> Weights:
        """The weights that hooks offer for evaluations, such as an average, and the choice of the user."""
        ...

    @property
    def scalars(self) -> Scalars:
        """The scalars of the current epoch's steps."""
        ...

    @property
    def between_steps(self) -> bool:
        """Whether no gradients are being accumulated. Only between steps, the state is complete and can be saved."""
        ...

    @property
    def validation_is_due(self) -> bool:
        """Whether a validation will follow the last optimiser step."""
        ...

    def abandon_evaluation(self) -> None:
        """Calls `on_evaluation_abandoned` if an evaluation is running.

        A hook that stops the run during an evaluation calls this method before it requests a checkpoint.
        """
        ...

    def checkpoint(self) -> AbstractContextManager[dict[str, dict[str, Any]]]:
        """Provides the complete state, by name, including the data that hooks add in `on_checkpoint_save`.

        Copy or write the state within the `with` block, because hooks may change its tensors afterwards
        (`on_state_collected`).
        """
        ...

    def load_checkpoint(self, state: Mapping[str, dict[str, Any]]) -> None:
        """Restores a state that `checkpoint` returned, possibly in an earlier run."""
        ...
