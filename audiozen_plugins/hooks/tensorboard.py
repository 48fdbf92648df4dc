"""TensorBoard: scalars, and the config as text, in `tb_log/`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from audiozen_core.errors import MissingExtraError
from audiozen_core.hookspecs import Mode, hookimpl
from audiozen_core.trainer.base_trainer import BaseTrainer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """Writes every recorded scalar and the effective config for `tensorboard --logdir`.

    It is on by default if TensorBoard is installed; a TOML that names it needs it.

    Args:
        required: whether it is an error that TensorBoard is not installed.

    Raises:
        MissingExtraError: it is required and not installed.
    """

    def __init__(self, required: bool = True) -> None:
        self._writer: SummaryWriter | None = None
        self._make: type[SummaryWriter] | None = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            if required:
                raise MissingExtraError("tensorboard", extra="tensorboard", needed_by="the hook tensorboard") from error
        else:
            self._make = SummaryWriter

    @hookimpl
    def on_run_start(self, trainer: BaseTrainer, mode: Mode) -> None:
        """Opens the log; a run that goes on hides the points that it is about to make again."""
        if self._make is None:
            return
        purge = trainer.progress.step + 1 if mode == "train" and trainer.progress.step else None
        self._writer = self._make(str(trainer.folder / "tb_log"), purge_step=purge)
        if mode == "train" and trainer.config_text:
            self._writer.add_text("config", f"```toml\n{trainer.config_text}\n```", trainer.progress.step)

    @hookimpl
    def on_gone_back(self, trainer: BaseTrainer) -> None:
        """Hides what is about to be made again."""
        self.on_teardown()
        self.on_run_start(trainer, "train")

    @hookimpl
    def on_log(self, metrics: Mapping[str, float], step: int) -> None:
        """Adds the scalars."""
        if self._writer is not None:
            for name, value in metrics.items():
                self._writer.add_scalar(name, value, step)

    @hookimpl
    def on_teardown(self) -> None:
        """Closes the log."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
