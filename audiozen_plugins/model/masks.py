"""Applies the masks or filters that a network has estimated to the noisy spectrum."""

from __future__ import annotations

import torch
from torch import Tensor

from audiozen_plugins.model.past import keep, recall


def apply_complex_mask(mask: Tensor, spectrum: Tensor) -> Tensor:
    """Multiplies a spectrum by a complex mask. Both are [..., 2], with real and imaginary part in the last axis.

    Example:
        >>> apply_complex_mask(torch.tensor([0.0, 1.0]), torch.tensor([3.0, 4.0]))
        tensor([-4.,  3.])
    """
    mask_real, mask_imag = mask.unbind(-1)
    real, imag = spectrum.unbind(-1)
    return torch.stack([real * mask_real - imag * mask_imag, imag * mask_real + real * mask_imag], dim=-1)


def deep_filter(spectrum: Tensor, coefficients: Tensor) -> Tensor:
    """Filters each frequency over the current and past frames, as in Mack and Habets, "Deep Filtering", 2020.

    The frames before the first frame are zeros. In a later piece of a signal, they come from the previous piece (see
    `Past`).

    Args:
        spectrum: complex spectra [batch, frequencies, frames].
        coefficients: complex filter coefficients [batch, frequencies, frames, order]. The last coefficient is for the
            current frame.

    Example:
        >>> spectrum = torch.tensor([[[1, 2, 3]]], dtype=torch.complex64)
        >>> deep_filter(spectrum, torch.tensor([10, 1]).expand(1, 1, 3, 2)).real
        tensor([[[ 1., 12., 23.]]])
    """
    order = coefficients.shape[-1]
    past = recall()
    before = spectrum.new_zeros(*spectrum.shape[:-1], order - 1) if past is None else past
    frames = torch.cat([before, spectrum], dim=-1)
    keep(frames[..., spectrum.shape[-1] :])
    return (frames.unfold(-1, order, 1) * coefficients).sum(-1)
