"""Declares the methods that a subclass of `BaseTrainer` defines: the steps of each mode, and the ends of epochs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from torch import Tensor

from audiozen_core.config.check_training import DEFINE_STEP, lacks_step, missing_steps
from audiozen_core.data.loader import BatchLoader
from audiozen_core.errors import RunError
from audiozen_core.kinds import Mode
from audiozen_core.trainer.step_scalars import mean_of


class Steps:
    """The methods that a subclass of `BaseTrainer` defines, for the modes that it supports."""

    def check_data(self, loaders: Mapping[Mode, Sequence[BatchLoader]]) -> None:
        """Checks that the data fits the networks. It is called before anything is written. By default, does nothing.

        Args:
            loaders: the loaders of all modes that are run, and of the validation. `loader.datasets` has the data sets,
                and `loader.names` their names for messages.
        """

    def prepare_batch(self, batch: Any, mode: Mode) -> Any:
        """Checks or converts a batch before each step of any mode. By default, returns the batch unchanged.

        Args:
            batch: the batch, on the device.
            mode: `train`, `validate`, `test` or `predict`.
        """
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | Mapping[str, Any]:
        """Runs the forward pass for one batch.

        Args:
            batch: the batch, on the device.
            batch_idx: the index of the batch in the epoch, from 0.

        Returns:
            The loss, a scalar; or a dict with `loss` and further scalars to record. To train each of several networks
            with its own loss, return a dict without `loss` that has a loss for each network, named by suffix (`loss_g`,
            `loss_d`). Each of these losses trains only its own network. All other entries are only recorded.
        """
        raise _lacks(self, "training_step")

    @property
    def waiting_networks(self) -> Collection[str]:
        """The suffixes of the networks that are intentionally not trained in the current epoch; by default none.

        Any other network without a gradient in a whole epoch causes a warning.
        """
        return ()

    def training_epoch_end(self, outputs: list[dict[str, float]]) -> Mapping[str, float]:
        """Returns the scalars to record for an epoch; by default the mean of each scalar.

        Args:
            outputs: the scalars of each step.
        """
        return mean_of(outputs)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Any:
        """Evaluates one batch of validation set `dataloader_idx`. Returns the input of `validation_epoch_end`."""
        raise _lacks(self, "validation_step")

    def validation_epoch_end(self, outputs: list[list[Any]]) -> float | Mapping[str, float]:
        """Returns the score of a validation.

        Args:
            outputs: the results of `validation_step`, as `outputs[dataloader_idx][batch_idx]`.

        Returns:
            The score; or a dict with `score` and further scalars to record.
        """
        raise _lacks(self, "validation_epoch_end")

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Any:
        """Evaluates one batch of test set `dataloader_idx`. Returns the input of `test_epoch_end`."""
        raise _lacks(self, "test_step")

    def test_epoch_end(self, outputs: list[list[Any]]) -> Mapping[str, float] | None:
        """Returns the scalars to record for a test.

        Args:
            outputs: the results of `test_step`, as `outputs[dataloader_idx][batch_idx]`.
        """
        raise _lacks(self, "test_epoch_end")

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Any:
        """Processes one batch without targets, and writes its results."""
        raise _lacks(self, "predict_step")


def check_steps(trainer: Steps, modes: Sequence[str], *, validates: bool) -> None:
    """Checks that a trainer defines all steps, so that a missing step is found before hours of training.

    Raises:
        RunError: a method is missing. The error names the first missing method.
    """
    for method in missing_steps(type(trainer), Steps, modes, validates=validates):
        raise _lacks(trainer, method)


def _lacks(trainer: object, method: str) -> RunError:
    return RunError(lacks_step(type(trainer), method), remedy=DEFINE_STEP)
