"""Remembers what took part in the present step of a trainer, so that an error of the step can say so."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling

from audiozen_core.data.description import describe
from audiozen_core.trainer.input_copies import CopiesInputs


class Participants:
    """The data of the present step, and the form of what each network and loss has returned in it.

    Many errors are raised far from their cause. If a network returns None, for example, torch fails in the loss. The
    notes name sections, and the experiment adds whose components these are. Only forms are kept, and no tensors.

    Attributes:
        batches_from: where the batches come from, in words, such as `[dataset]`.
    """

    def __init__(self) -> None:
        self.batches_from = ""
        self._forms: dict[str, tuple[torch.dtype, torch.Size, bool] | str] = {}

    def begin_step(self) -> None:
        """Forgets what the last step has returned."""
        self._forms.clear()

    def watch(self, section: str, part: nn.Module | CopiesInputs) -> None:
        """Notes what a network or a loss returns, whenever it is called."""
        if isinstance(part, nn.Module):
            # A ScriptModule refuses its own `register_forward_hook`, although its call runs such hooks.
            nn.Module.register_forward_hook(part, partial(self._note_module, section))
        else:
            part.on_return = partial(self._note, section)

    def notes(self, *, of_batch: bool) -> list[str]:
        """Returns the notes for an error: the data, and what each network and loss has returned, by section."""
        data = self.data_notes() if of_batch else []
        return [*data, *(f"returned by [{section}]: {_in_words(form)}" for section, form in self._forms.items())]

    def data_notes(self) -> list[str]:
        """Returns the note that says where the batch is from."""
        return [f"data: the batch is from {self.batches_from}"] if self.batches_from else []

    def _note_module(self, section: str, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        # Within a compiled graph, this would be part of the graph.
        if not is_compiling():
            self._note(section, output)

    def _note(self, section: str, output: Any) -> None:
        # This runs in each step, so tensors are described only for an error.
        if isinstance(output, Tensor):
            cut = torch.is_grad_enabled() and not output.requires_grad
            self._forms[section] = output.dtype, output.shape, cut
        else:
            self._forms[section] = describe(output)


def _in_words(form: tuple[torch.dtype, torch.Size, bool] | str) -> str:
    if isinstance(form, str):
        return form
    dtype, shape, cut = form
    return describe(torch.empty(shape, dtype=dtype, device="meta")) + ", without a gradient" * cut
