"""Gradient clipping: `trainer.args.clip_grad_norm_value`."""

from __future__ import annotations

import torch

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
        for suffix, model in trainer.models.items():
            norm = trainer.grad_norms.get(suffix)
            if norm is None:  # the trainer does not measure gradients that AMP has scaled
                gradients = [weight.grad for weight in model.parameters() if weight.grad is not None]
                norm = torch.nn.utils.get_total_norm(gradients)
            if limit is not None:
                torch.nn.utils.clip_grads_with_norm_(model.parameters(), limit, norm)
            norms.append(norm)
        trainer.grad_norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
