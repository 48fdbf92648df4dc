"""Explains the errors of networks, losses and steps: the messages say what failed, and for inputs of which form.

Two functions exist in two variants. `translate_step_errors` is a context manager, and `explain_step_error` is called in
an `except` block. The training step uses the second variant, because a `try` block costs no time without an error.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from audiozen_core.data.description import describe, sample_notes
from audiozen_core.errors import AudioZenError, RunError, exception_text, foreign_frames
from audiozen_core.trainer import input_copies, losses
from audiozen_core.trainer.participants import Participants

_NOT_IN_PLACE = (
    "a network, a loss or the trainer changes a tensor in place that the backward pass needs, for example with "
    "`x += y`, `x.relu_()` or `x[0] = y`: create a new tensor instead, such as `x = x + y`; torch names the operation "
    "if your module calls `torch.autograd.set_detect_anomaly(True)`"
)
_CALLERS = (input_copies.__file__, losses.__file__, nn.modules.module.__file__)


@contextmanager
def translate_part_errors(part: str, *inputs: Any, remedy: str) -> Iterator[None]:
    """Translates an error that the block raises. An `AudioZenError` passes unchanged.

    Args:
        part: the name of the part that the block calls, for messages, such as "the model".
        inputs: the inputs of the call. The message contains their dtypes and shapes.
        remedy: what to do about the error.

    Raises:
        RunError: the part raised an error, or can't be called with the inputs.
    """
    try:
        yield
    except AudioZenError:
        raise
    except Exception as error:
        if _refused_call(error):
            arguments = f"{len(inputs)} tensors" if len(inputs) > 1 else "one tensor"
            raise RunError(
                f"{part} can't be called with {arguments}: {exception_text(error)}",
                remedy=f"give the path of an object that can be called with {arguments}; for a function that creates "
                f"{part}, give the path of its result instead, for example `made` after `made = make()` in your "
                f"module; {remedy}",
            ) from error
        forms = " and ".join(map(describe, inputs))
        plural = "inputs of the forms" if len(inputs) > 1 else "an input of the form"
        raise RunError.caused_by(error, f"{part} fails for {plural} {forms}:", remedy=remedy) from error


def explain_method_error(error: Exception, section: str, part: object, method: str) -> None:
    """Explains an error of a method that AudioZEN calls without data, such as `train` of a network.

    Returns without an exception for an `AudioZenError` or an out-of-memory error, so that the caller can re-raise it.

    Args:
        error: the error that the method raised.
        section: the section of the part, such as `model_g`.
        part: the network, loss or optimiser.
        method: the name of the method.

    Raises:
        RunError: the explained error.
    """
    if not isinstance(error, AudioZenError | torch.OutOfMemoryError):
        raise RunError.caused_by(error, f"[{section}] {type(part).__name__} failed in `{method}`:") from error


@contextmanager
def translate_method_errors(section: str, part: object, method: str) -> Iterator[None]:
    """Explains an error of the block with `explain_method_error`."""
    try:
        yield
    except Exception as error:
        explain_method_error(error, section, part, method)
        raise


def explain_backward_error(error: Exception, loss: str, participants: Participants) -> None:
    """Explains an error of a backward pass, which is caused by the operations of a network or a loss.

    Returns without an exception for an `AudioZenError`, so that the caller can re-raise it.

    Args:
        error: the error that the backward pass raised.
        loss: the name of the loss, such as `loss_g`.
        participants: the participants of the forward pass.

    Raises:
        RunError: the explained error.
    """
    if not isinstance(error, AudioZenError):
        notes = participants.notes(of_batch=True)
        remedy = _NOT_IN_PLACE if "inplace" in str(error) else ""
        raise RunError.caused_by(error, f"the backward pass of `{loss}` failed:", notes=notes, remedy=remedy) from error


def _refused_call(error: Exception) -> bool:
    """Returns whether the call itself failed because of its arguments, before any code of the called object ran."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return isinstance(error, TypeError) and not foreign_frames(error) and last in _CALLERS


def explain_step_error(
    error: Exception, step: Callable[..., Any], batch: Any = None, batch_idx: int | None = None
) -> None:
    """Explains an error that a method of a trainer raised, or that was found in its result.

    Adds notes to an `AudioZenError`, which name the samples and all participants of the step, and returns. Also returns
    for an error of the operating system, such as a full disk. The caller can then re-raise the error.

    Args:
        error: the error.
        step: the method, such as `trainer.training_step`.
        batch: the batch that the method was called with, if any.
        batch_idx: the index of the batch, from 0; None if the method was called without a batch.

    Raises:
        RunError: the explained error.
    """
    name, has_batch = getattr(step, "__qualname__", repr(step)), batch_idx is not None
    step_notes = [f"step: {name} of [trainer]", *_participants_of(step).notes(of_batch=has_batch)]
    if isinstance(error, AudioZenError):
        add_samples(error, batch)
        error.notes = (*error.notes, *step_notes)
    elif not isinstance(error, OSError):
        where = f" in batch {batch_idx}" if has_batch else ""
        notes = [f"batch: {describe(batch)}", *sample_notes(batch)] if has_batch else []
        explained = RunError.caused_by(error, f"{name} failed{where}:", notes=notes)
        explained.notes = (*explained.notes, *step_notes)
        raise explained from error


@contextmanager
def translate_step_errors(step: Callable[..., Any], batch: Any = None, batch_idx: int | None = None) -> Iterator[None]:
    """Begins a step, and explains an error of the block with `explain_step_error`."""
    _participants_of(step).begin_step()
    try:
        yield
    except Exception as error:
        explain_step_error(error, step, batch, batch_idx)
        raise


def _participants_of(step: Callable[..., Any]) -> Participants:
    participants: Participants | None = getattr(getattr(step, "__self__", None), "participants", None)
    return participants or Participants()


def add_samples(error: AudioZenError, batch: Any) -> None:
    """Adds a note with the samples of the batch to an error, unless the error already names samples."""
    if not any(note.startswith("samples: ") for note in error.notes):
        error.notes = (*error.notes, *sample_notes(batch))


@contextmanager
def name_samples(batch: Any) -> Iterator[None]:
    """Adds the samples of a batch to an `AudioZenError` of the block."""
    try:
        yield
    except AudioZenError as error:
        add_samples(error, batch)
        raise
