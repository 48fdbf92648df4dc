"""The methods that a subclass of `BaseTrainer` defines: the steps of each mode, and what follows the last step."""

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
    """The methods that a subclass of `BaseTrainer` defines, for the modes that it is used in."""

    def check_data(self, loaders: Mapping[Mode, Sequence[BatchLoader]]) -> None:
        """Checks that the data fits the networks. It is called before anything is written; by default it does nothing.

        Args:
            loaders: the data of all modes that are run, and of the validation. `loader.datasets` has its data sets, and
                `loader.names` what they are called in messages.
        """

    def prepare_batch(self, batch: Any, mode: Mode) -> Any:
        """Checks or converts a batch before each step of any mode; by default it returns the batch.

        Args:
            batch: the batch, on the device.
            mode: `train`, `validate`, `test` or `predict`.
        """
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | Mapping[str, Any]:
        """The forward pass for one batch.

        Args:
            batch: the batch, on the device.
            batch_idx: its index in the epoch, from 0.

        Returns:
            The loss, a scalar; or a dict with `loss` and further scalars to record. If several networks are trained,
            the dict has no `loss`, but one for each network, named by suffix (`loss_g`, `loss_d`). Each loss trains
            only its own network. Everything else in the dict is only recorded, whatever its name is.
        """
        raise _lacks(self, "training_step")

    @property
    def waiting_networks(self) -> Collection[str]:
        """The suffixes of the networks that the present epoch may leave untrained on purpose; by default none.

        Any other network without a gradient in a whole epoch is a warning.
        """
        return ()

    def training_epoch_end(self, outputs: list[dict[str, float]]) -> Mapping[str, float]:
        """The scalars to record for an epoch; by default the means.

        Args:
            outputs: the scalars of each step.
        """
        return mean_of(outputs)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Any:
        """One batch of validation set number `dataloader_idx`; returns what `validation_epoch_end` needs."""
        raise _lacks(self, "validation_step")

    def validation_epoch_end(self, outputs: list[list[Any]]) -> float | Mapping[str, float]:
        """The score of a validation.

        Args:
            outputs: what `validation_step` returned, as `outputs[dataloader_idx][batch_idx]`.

        Returns:
            The score; or a dict with `score` and further scalars to record.
        """
        raise _lacks(self, "validation_epoch_end")

    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Any:
        """One batch of test set number `dataloader_idx`; returns what `test_epoch_end` needs."""
        raise _lacks(self, "test_step")

    def test_epoch_end(self, outputs: list[list[Any]]) -> Mapping[str, float] | None:
        """The scalars to record for a test.

        Args:
            outputs: what `test_step` returned, as `outputs[dataloader_idx][batch_idx]`.
        """
        raise _lacks(self, "test_epoch_end")

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Any:
        """One batch without targets; the step writes its results itself."""
        raise _lacks(self, "predict_step")


def check_steps(trainer: Steps, modes: Sequence[str], *, validates: bool) -> None:
    """Checks that a trainer defines all steps, so that a missing step is found before hours of training.

    Raises:
        RunError: a method is missing; the error names the first.
    """
    for method in missing_steps(type(trainer), Steps, modes, validates=validates):
        raise _lacks(trainer, method)


def _lacks(trainer: object, method: str) -> RunError:
    return RunError(lacks_step(type(trainer), method), remedy=DEFINE_STEP)
