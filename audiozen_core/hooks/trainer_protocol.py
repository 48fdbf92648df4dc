"""What a hook may use of the trainer: the contract between the training loop and the authors of plugins.

    from audiozen import hookimpl
    from audiozen.hooks import Trainer

    class Announce:
        @hookimpl
        def on_epoch_end(self, trainer: Trainer, epoch: int) -> None:
            trainer.log.info(f"epoch {epoch} took {trainer.progress.batches} batches")

`BaseTrainer` satisfies the protocol, as the type checker verifies. Everything else on a trainer may change without
notice.
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
    """Anything that can return its state and restore it."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the state, as tensors and plain values."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Restores what `state_dict` returned."""
        ...


class State(Protocol):
    """The registry of everything that a checkpoint holds."""

    def register(self, name: str, entry: Stateful) -> None:
        """Adds an object to the checkpoints, under a name of its own."""
        ...


class Scalars(Protocol):
    """The scalars of the training steps of the current epoch.

    Attributes:
        per_batch: the scalars of each batch, oldest first. On a GPU the newest batches are missing, because reading
            them would stall it.
        rates: the learning rates that the last optimiser step was taken with, by name, such as `lr`; empty before the
            first step.
        read_at_once: set this to true in `on_run_start` if your hook answers `on_nonfinite` with "skip". Each loss is
            then read before the weights are updated, for which a GPU has to wait.
    """

    per_batch: list[dict[str, float]]
    rates: Mapping[str, float | torch.Tensor]
    read_at_once: bool

    @property
    def last(self) -> Mapping[str, float]:
        """The newest scalars that have been read; empty before the first step."""
        ...


class Weights(Protocol):
    """The weights that evaluations use; `trainer.weights` is one."""

    chosen: str | None
    """What `--weights` names: `raw`, or weights that a hook has offered; None leaves it to the hooks."""

    def offer(self, name: str, use: Callable[[], None] | None = None) -> None:
        """Says that a hook can evaluate other weights than the trained ones; call it in `on_setup`.

        Args:
            name: what the user calls them in `--weights`.
            use: puts the weights into the networks for good, if they are the ones that evaluations use. It is called
                where a trained network is used outside of a run, as by `audiozen enhance --weights`.
        """
        ...


class Trainer(Protocol):
    """A trainer, as hooks see it.

    Attributes:
        models: the networks by suffix. If an experiment has only one network, the suffix is "".
        loss_functions: the loss functions by suffix.
        optimizers: the optimisers by suffix.
        device: where the networks are.
        ranks: the processes of the run. See `Ranks`: a hook that writes a file does so on the main process only.
        folder: the run's directory, such as `exp/baseline`.
        experiment: the experiment ID, such as `baseline`.
        seed: the seed of the run.
        sr: the sample rate of `[acoustics]`, in Hz.
        use_amp: whether automatic mixed precision is on.
        config_text: the effective TOML.
        checkpoint_name: in validation, test and prediction the checkpoint whose weights are used, such as
            `best_epoch_0012`; "" if they were not loaded from one.
        start_is_unsaved: true if the state that this run started from is not in one of its own checkpoints, as in
            finetuning.
        log: a structlog logger.
        progress: the progress of the run.
        num_batches: the number of batches in an epoch; None if it is not known.
        batch_size: the number of samples in a batch.
        loss_is_scaled: set this to true if your hook scales the loss. The trainer then does not check the gradients,
            because an overflow is normal.
        grad_norm: the norm of all gradients of the newest optimiser step before clipping, a scalar on the device; set
            by the clipping hook. None if nothing was measured.
        max_epochs: this and all further attributes are the arguments in `[trainer.args]`; see `BaseTrainer`.
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
        """How long the training has waited for its batches since the start of the program."""
        ...

    @property
    def part_seconds(self) -> Mapping[str, float]:
        """How long each part of the training has taken since the start of the program.

        The parts are `data`, `transfer`, `forward`, `backward`, `optimizer`, `rest` (hooks, checks, records) and
        `outside` (validations, and the time between epochs). A GPU works behind the program, so with one these are only
        the times of the program.
        """
        ...

    @property
    def gpu_part_seconds(self) -> tuple[Mapping[str, float], int]:
        """How long a GPU has needed for each part of the steps that were measured on it, and how many these were.

        It is one step of 16. To ask does not wait for the GPU. Without one, nothing is measured.
        """
        ...

    @property
    def sections(self) -> Mapping[str, Any]:
        """The sections that plugins bring, by name: `trainer.sections["acme"]` is an object of its dataclass.

        A section that the TOML file does not have is made from its defaults when `[…]` asks for it. If one of its
        fields has no default, that is a `RunError`. So is a name that no plugin brings.
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
        """The learning-rate scheduler of an experiment that has one network; None without a scheduler."""
        ...

    @property
    def state_device(self) -> torch.device:
        """Where checkpoints are read to: the device, or the CPU if it need not hold the whole weights."""
        ...

    def trained_parameters(self, suffix: str) -> list[torch.Tensor]:
        """Returns the parameters that an optimiser changes: of a network, and of its loss function if it has any."""
        ...

    def dataset_name(self, mode: Mode, dataloader_idx: int) -> str:
        """Returns the name of a data set: its `name` in the TOML file, or else its index."""
        ...

    def measure_gradients(self) -> dict[str, torch.Tensor]:
        """Returns the norm of the present gradients of each network and its loss function, by suffix.

        The norms are scalars on the device. A network without gradients is left out.
        """
        ...

    @property
    def state(self) -> State:
        """The registry of what checkpoints hold; register your own state in `on_setup`."""
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
        """Whether no gradients are being accumulated: only then is the state complete, so that it can be saved."""
        ...

    @property
    def validation_is_due(self) -> bool:
        """Whether a validation follows the optimiser step that is done."""
        ...

    def abandon_evaluation(self) -> None:
        """Calls `on_evaluation_abandoned` if an evaluation is running.

        A hook that stops the run during an evaluation calls this method before it requests a checkpoint.
        """
        ...

    def checkpoint(self) -> AbstractContextManager[dict[str, dict[str, Any]]]:
        """Provides the complete state, by name, including what the hooks add in `on_checkpoint_save`.

        Copy or write the state within the block: afterwards hooks may change its tensors (`on_state_collected`).
        """
        ...

    def load_checkpoint(self, state: Mapping[str, dict[str, Any]]) -> None:
        """Restores a state that `checkpoint` returned, possibly in an earlier run."""
        ...
