"""Gradient clipping: `trainer.args.clip_grad_norm_value`."""

from __future__ import annotations

import torch
from torch import Tensor

from audiozen_core.hooks.specs import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer


class ClipGradNorm:
    """Scales the gradients of each network down to a norm of at most `clip_grad_norm_value`.

    `trainer.grad_norm` is set to the norm before clipping, as a tensor on the device, so that the CPU does not wait for
    it. If `plot_norm` is set, the norm is computed even without clipping.
    """

    default = True
    phase = "gradient"

    @hookimpl
    def on_gradients_ready(self, trainer: Trainer) -> None:
        """Clips the gradients and stores the norm."""
        limit = trainer.clip_grad_norm_value
        if limit is None and not trainer.plot_norm:
            return
        norms = []
        for suffix in trainer.models:
            parameters = trainer.trained_parameters(suffix)
            norm = trainer.grad_norms.get(suffix)
            if norm is None:  # the trainer does not measure gradients that AMP has scaled
                gradients = [_values_of(weight.grad) for weight in parameters if weight.grad is not None]
                norm = torch.nn.utils.get_total_norm(gradients)
            if limit is not None:
                torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
            norms.append(norm)
        trainer.grad_norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))


def _values_of(gradient: Tensor) -> Tensor:
    """Returns the gradient itself, or the values of a sparse one, such as that of `nn.Embedding(sparse=True)`."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient
