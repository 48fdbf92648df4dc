"""Gradient clipping: `trainer.args.clip_grad_norm_value`."""

from __future__ import annotations

import torch

from audiozen_core.hooks.marker import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer


class ClipGradNorm:
    """Scales the gradients of each network down, so that their norm is at most `clip_grad_norm_value`.

    The hook sets `trainer.grad_norm` to the norm before clipping. The norm is a tensor on the device, so the CPU does
    not wait for the GPU. If `plot_norm` is set, the norm is computed even without clipping. If other hooks change the
    gradients before this hook runs, the norm of the changed gradients is used.
    """

    default = True
    affects_outputs = False
    phase = "gradient"

    @hookimpl.on_gradients_ready
    def on_gradients_ready(self, trainer: Trainer) -> None:
        """Clips the gradients and stores the norm."""
        limit = trainer.clip_grad_norm_value
        if limit is None and not trainer.plot_norm:
            return
        # The trainer has already computed the norm. It is computed again only if AMP or another hook may have changed
        # the gradients.
        measured = trainer.measure_gradients()
        if limit is not None:
            for suffix, norm in measured.items():
                torch.nn.utils.clip_grads_with_norm_(trainer.trained_parameters(suffix), limit, norm)
        norms = list(measured.values())
        total = torch.linalg.vector_norm(torch.stack(norms)) if len(norms) > 1 else None
        trainer.grad_norm = norms[0] if len(norms) == 1 else total
