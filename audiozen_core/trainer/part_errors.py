"""Explains the errors of networks, losses and steps, so that they say what failed, and on which form of inputs.

Some of it comes in two forms. `translate_step_errors` is for a `with`; `explain_step_error` is called where an error
has been caught. A training step uses the latter, because a `try` without an error takes no time.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from audiozen_core.data.description import describe, sample_notes
from audiozen_core.errors import AudioZenError, RunError, foreign_frames
from audiozen_core.trainer import input_copies, losses
from audiozen_core.trainer.participants import Participants

_NOT_IN_PLACE = (
    "a network, a loss or the trainer changes a tensor that the backward pass needs, for example by `x += y`, "
    "`x.relu_()` or `x[0] = y`: make a new tensor instead, such as `x = x + y`; torch names the operation if your "
    "module calls `torch.autograd.set_detect_anomaly(True)`"
)
_CALLERS = (input_copies.__file__, losses.__file__, nn.modules.module.__file__)


@contextmanager
def translate_part_errors(part: str, *inputs: Any, remedy: str) -> Iterator[None]:
    """Translates an error that a part raises for some inputs. An `AudioZenError` passes unchanged.

    Args:
        part: the part in messages, such as "the model".
        inputs: what the part is given. The message has their dtypes and shapes.
        remedy: what to do about it.

    Raises:
        RunError: the part raised an error, or can't be called with the inputs.
    """
    try:
        yield
    except AudioZenError:
        raise
    except Exception as error:
        if _refused_call(error):
            given, them = (f"{len(inputs)} tensors", "them") if len(inputs) > 1 else ("one tensor", "it")
            raise RunError(
                f"{part} was called with {given}, and does not take {them}: {type(error).__name__}: {error}",
                remedy=f"name something that takes {given}; a function that makes {part} can't be named, only what it "
                f"returns, for example after `made = make()` in your module; {remedy}",
            ) from error
        forms = " and ".join(map(describe, inputs))
        plural = "inputs of the forms" if len(inputs) > 1 else "an input of the form"
        raise RunError.caused_by(error, f"{part} fails for {plural} {forms}:", remedy=remedy) from error


def explain_method_error(error: Exception, section: str, part: object, method: str) -> None:
    """Explains an error of a method that AudioZEN calls without data, such as `train` of a network.

    Args:
        error: what the method has raised.
        section: the section of the part, such as `model_g`.
        part: the network, loss or optimiser.
        method: the name of the method.

    Raises:
        RunError: in place of the error. For an `AudioZenError`, or too little memory, this returns.
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
    """Explains an error of a backward pass. It comes from the operations of a network or a loss.

    Args:
        error: what the backward pass has raised.
        loss: the name of the loss, such as `loss_g`.
        participants: what took part in the forward pass.

    Raises:
        RunError: in place of the error. For an `AudioZenError` this returns.
    """
    if not isinstance(error, AudioZenError):
        notes = participants.notes(of_batch=True)
        remedy = _NOT_IN_PLACE if "inplace" in str(error) else ""
        raise RunError.caused_by(error, f"the backward pass of `{loss}` failed:", notes=notes, remedy=remedy) from error


def _refused_call(error: Exception) -> bool:
    """Whether the call itself has raised the error, because of its arguments, and no line of what was called."""
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    return isinstance(error, TypeError) and not foreign_frames(error) and last in _CALLERS


def explain_step_error(
    error: Exception, step: Callable[..., Any], batch: Any = None, batch_idx: int | None = None
) -> None:
    """Explains an error that a method of a trainer raises, or that is found in what it returns.

    An `AudioZenError` gets notes. They name the samples, and everything that took part in the step. An error of the
    operating system, such as a disk that is full, stays as it is.

    Args:
        error: what the method has raised.
        step: the method, such as `trainer.training_step`.
        batch: the batch that it is given, if it is given one.
        batch_idx: the index of the batch, from 0.

    Raises:
        RunError: in place of the error. For an `AudioZenError`, or one of the operating system, this returns.
    """
    name, of_batch = getattr(step, "__qualname__", repr(step)), batch_idx is not None
    took_part = [f"step: {name} of [trainer]", *_participants_of(step).notes(of_batch=of_batch)]
    if isinstance(error, AudioZenError):
        add_samples(error, batch)
        error.notes = (*error.notes, *took_part)
    elif not isinstance(error, OSError):
        where = f" in batch {batch_idx}" if of_batch else ""
        notes = [f"batch: {describe(batch)}", *sample_notes(batch)] if of_batch else []
        explained = RunError.caused_by(error, f"{name} failed{where}:", notes=notes)
        explained.notes = (*explained.notes, *took_part)
        raise explained from error


@contextmanager
def translate_step_errors(step: Callable[..., Any], batch: Any = None, batch_idx: int | None = None) -> Iterator[None]:
    """Explains an error of the block with `explain_step_error`. A step begins with the block."""
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
    """Adds a note to an error: the samples of the batch, unless the error already names samples."""
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
