"""Writes scalars, and the config as text, to `tb_log/` for TensorBoard."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from audiozen_core.errors import MissingExtraError
from audiozen_core.hooks.specs import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.kinds import Mode

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes every recorded scalar and the effective config for `tensorboard --logdir`.

    The scalars of a separate validation, test or prediction are in a folder of their own, `evaluation`, which
    TensorBoard shows as another run. So they stay visible when a resume hides the points of the steps that it will
    repeat.

    The hook is on by default if TensorBoard is installed. A TOML file that names the hook requires TensorBoard. If
    the disk is full, the run continues without writing points here (`metrics.jsonl` still has them), and the next epoch
    opens the log again.

    Args:
        required: whether it is an error if TensorBoard is not installed.

    Raises:
        MissingExtraError: TensorBoard is required and not installed.
    """

    default = True
    main_process_only = True
    default_args: ClassVar = {"required": False}
    affects_training = False

    def __init__(self, required: bool = True) -> None:
        self._writer: SummaryWriter | None = None
        self._failed = False
        self._folder = Path()
        self._make: type[SummaryWriter] | None = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            if required:
                raise MissingExtraError("tensorboard", extra="tensorboard", needed_by="the hook tensorboard") from error
        else:
            self._make = SummaryWriter

    @hookimpl.on_run_start
    def on_run_start(self, trainer: Trainer, mode: Mode) -> None:
        """Opens the log. A resumed run hides the points of the steps that it will repeat."""
        training = mode == "train"
        self._folder = trainer.folder / "tb_log" if training else trainer.folder / "tb_log" / "evaluation"
        with self._tolerate_full_disk(trainer):
            self._open(trainer.progress.step + 1 if training and trainer.progress.step else None)
            if self._writer is not None and training and trainer.config_text:
                self._writer.add_text("config", f"```toml\n{trainer.config_text}\n```", trainer.progress.step)

    @hookimpl.on_rollback
    def on_rollback(self, trainer: Trainer) -> None:
        """Hides the points of the steps that will be repeated."""
        self.on_teardown(trainer)
        self.on_run_start(trainer, "train")

    @hookimpl.on_epoch_start
    def on_epoch_start(self, trainer: Trainer) -> None:
        """Opens the log again after an error."""
        if self._failed:
            with self._tolerate_full_disk(trainer):
                self._open(None)
                self._failed = False

    @hookimpl.on_log
    def on_log(self, trainer: Trainer, metrics: Mapping[str, float], step: int) -> None:
        """Adds the scalars."""
        with self._tolerate_full_disk(trainer):
            for name, value in metrics.items():
                if self._writer is not None:
                    self._writer.add_scalar(name, value, step)
            if self._writer is not None and trainer.checkpoint_name:
                self._writer.add_text("checkpoint", f"{trainer.checkpoint_name}: {', '.join(metrics)}", step)

    @hookimpl.on_teardown
    def on_teardown(self, trainer: Trainer) -> None:
        """Closes the log."""
        with self._tolerate_full_disk(trainer):
            writer, self._writer = self._writer, None
            if writer is not None:
                writer.close()

    def _open(self, purge_step: int | None) -> None:
        if self._make is not None:
            self._writer = self._make(str(self._folder), purge_step=purge_step)

    @contextmanager
    def _tolerate_full_disk(self, trainer: Trainer) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # The error has ended the writer's own thread, so this writer can't be used any more.
            self._writer, self._failed = None, True
            trainer.log.warning(
                "TensorBoard's log can't be written, so some of its points will be missing", reason=str(error)
            )
