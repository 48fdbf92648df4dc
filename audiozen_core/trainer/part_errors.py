"""Translates the errors of networks, losses and steps, so that they say what failed, and for inputs of which form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from audiozen_core.data.description import describe, sample_notes
from audiozen_core.errors import AudioZenError, RunError


@contextmanager
def translate_part_errors(part: str, *inputs: Any, remedy: str) -> Iterator[None]:
    """Translates an error that a part raises for some inputs. An `AudioZenError` passes unchanged.

    Args:
        part: the part in messages, such as "the model".
        inputs: what the part is given. The message has their dtypes and shapes.
        remedy: what to do about it.

    Raises:
        RunError: the part raised an error.
    """
    try:
        yield
    except AudioZenError:
        raise
    except Exception as error:
        forms = " and ".join(map(describe, inputs))
        plural = "inputs of the forms" if len(inputs) > 1 else "an input of the form"
        raise RunError.caused_by(error, f"{part} fails for {plural} {forms}:", remedy=remedy) from error


@contextmanager
def translate_step_errors(step: Callable[..., Any], batch: Any = None, batch_idx: int | None = None) -> Iterator[None]:
    """Translates an error that a method of a trainer raises.

    An `AudioZenError` passes with a note that names the samples. An error of the operating system, such as a disk that
    is full, passes unchanged.

    Args:
        step: the method, such as `trainer.training_step`.
        batch: the batch that it is given, if it is given one.
        batch_idx: the index of the batch, from 0.

    Raises:
        RunError: the method raised an error.
    """
    try:
        with name_samples(batch):
            yield
    except (AudioZenError, OSError):
        raise
    except Exception as error:
        name = getattr(step, "__qualname__", repr(step))
        where, notes = "", []
        if batch_idx is not None:
            where, notes = f" in batch {batch_idx}", [f"batch: {describe(batch)}", *sample_notes(batch)]
        raise RunError.caused_by(error, f"{name} failed{where}:", notes=notes) from error


@contextmanager
def name_samples(batch: Any) -> Iterator[None]:
    """Adds a note to an `AudioZenError`: the samples of the batch, unless the error already names samples."""
    try:
        yield
    except AudioZenError as error:
        if not any(note.startswith("samples: ") for note in error.notes):
            error.notes = (*error.notes, *sample_notes(batch))
        raise
