"""What a trainer's subclass defines: the steps of each mode, and what becomes of their answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from audiozen_core.errors import RunError
from audiozen_core.trainer.step_scalars import mean_of


class Steps:
    """The methods that a subclass of `BaseTrainer` defines, as far as its modes need them."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor | Mapping[str, Any]:
        """One batch's forward pass.

        Args:
            batch: the batch, on the device.
            batch_idx: its place in the epoch, from 0.

        Returns:
            The loss, a scalar; or a dict with `loss` and further scalars to record. Where several nets are trained, the
            dict has a loss for each under the net's suffix (`loss_g`, `loss_d`), which reaches that net alone.
        """
        raise _lacks(self, "training_step")

    def training_epoch_end(self, outputs: list[dict[str, float]]) -> Mapping[str, float]:
        """The scalars to record for an epoch, by default the means.

        Args:
            outputs: the scalars of each step.
        """
        return mean_of(outputs)

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Any:
        """One batch of the validation set number `dataloader_idx`; what it returns goes to `validation_epoch_end`."""
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
        """One batch of the test set number `dataloader_idx`; what it returns goes to `test_epoch_end`."""
        raise _lacks(self, "test_step")

    def test_epoch_end(self, outputs: list[list[Any]]) -> Mapping[str, float] | None:
        """Takes what `test_step` returned, as `outputs[dataloader_idx][batch_idx]`; gives scalars to record."""
        raise _lacks(self, "test_epoch_end")

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int) -> Any:
        """One batch of prediction: there are no targets, and what comes out is written by the step itself."""
        raise _lacks(self, "predict_step")


# What each mode calls; `train` and `finetune` validate where there is data for it.
_NEEDED = {
    "train": ("training_step",),
    "finetune": ("training_step",),
    "validate": ("validation_step", "validation_epoch_end"),
    "test": ("test_step", "test_epoch_end"),
    "predict": ("predict_step",),
}


def check_steps(trainer: Steps, modes: Sequence[str], *, validates: bool) -> None:
    """Refuses a trainer that lacks a step of these modes, before hours of training end in that error.

    Args:
        trainer: the trainer.
        modes: what is to be done.
        validates: whether a training validates.

    Raises:
        RunError: names the first method that is missing.
    """
    wanted = [*modes, *(["validate"] if validates and {"train", "finetune"} & set(modes) else [])]
    for method in (method for mode in wanted for method in _NEEDED[mode]):
        if getattr(type(trainer), method) is getattr(Steps, method):
            raise _lacks(trainer, method)


def _lacks(trainer: object, method: str) -> RunError:
    return RunError(
        f"{type(trainer).__name__} does not define `{method}`, which this mode needs",
        remedy="see docs/writing_a_trainer.md for what it gets and gives",
    )
