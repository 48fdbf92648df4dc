"""Records the data and the outputs of the current step of a trainer, for the notes of errors."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_dynamo_compiling

from audiozen_core.data.description import describe
from audiozen_core.trainer.input_copies import CopiesInputs


class Participants:
    """The origin of the batch in the current step, and the form of the output of each network and loss.

    Many errors are raised far from their cause. If a network returns None, for example, the loss fails. The notes name
    sections, and the experiment adds the components of these sections. Only forms are stored, not tensors.

    Attributes:
        batches_from: the origin of the batches for messages, such as `[dataset]`.
    """

    def __init__(self) -> None:
        self.batches_from = ""
        self._forms: dict[str, tuple[torch.dtype, torch.Size, bool] | str] = {}

    def begin_step(self) -> None:
        """Forgets the outputs of the last step."""
        self._forms.clear()

    def watch(self, section: str, part: nn.Module | CopiesInputs) -> None:
        """Records the form of the output in every call of a network or a loss."""
        if isinstance(part, nn.Module):
            # The method of a ScriptModule raises an error, although calls of a ScriptModule run such hooks.
            nn.Module.register_forward_hook(part, partial(self._note, section))
        else:
            part.on_return = partial(self._note, section)

    def notes(self, *, of_batch: bool) -> list[str]:
        """Returns notes for an error: the output of each network and loss, and with `of_batch` also the data."""
        data = self.data_notes() if of_batch else []
        return [*data, *(f"returned by [{section}]: {_in_words(form)}" for section, form in self._forms.items())]

    def data_notes(self) -> list[str]:
        """Returns a note with the origin of the batch; an empty list if it is unknown."""
        return [f"data: the batch is from {self.batches_from}"] if self.batches_from else []

    def _note(self, section: str, *call: Any) -> None:
        """Notes the last element of `call`, the output. A module also passes itself and its inputs."""
        if is_dynamo_compiling():  # this would become part of the graph
            return
        output = call[-1]
        # This runs in each step, so the text about a tensor is created only for an error.
        if isinstance(output, Tensor):
            is_detached = not output.requires_grad and torch.is_grad_enabled()
            self._forms[section] = output.dtype, output.shape, is_detached
        else:
            self._forms[section] = describe(output)


def _in_words(form: tuple[torch.dtype, torch.Size, bool] | str) -> str:
    if isinstance(form, str):
        return form
    dtype, shape, is_detached = form
    return describe(torch.empty(shape, dtype=dtype, device="meta")) + ", without a gradient" * is_detached
