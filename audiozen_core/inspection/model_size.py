"""Counts the weights of a model, and its multiply-accumulate operations for one second of audio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import Parameter
from typing import Any

from audiozen_core.audio.acoustics import Acoustics, declared_acoustics
from audiozen_core.binding.signature import signature_of


@dataclass(frozen=True, slots=True)
class ModelSize:
    """The size of a model with the default arguments.

    Attributes:
        weights: the number of trained weights; None if it is unknown.
        macs_per_second: the number of multiply-accumulate operations for one second of audio, in matrix products,
            convolutions, attention and recurrent layers; None if it is unknown. Norms, activations and the STFT are not
            counted.
        sr: the sample rate of the audio, in hertz.
        hop_length: the number of samples between two frames that was assumed, because the model works on frames and
            does not declare it; otherwise None.
        unknown: why one of the two numbers is unknown; "" if both are known.
        modules: the number of trained weights of each module of the model, by name.
    """

    weights: int | None
    macs_per_second: int | None
    sr: int
    unknown: str
    modules: Mapping[str, int] = field(default_factory=dict)
    hop_length: int | None = None

    def __str__(self) -> str:
        if self.weights is None:
            return f"not known: {self.unknown}"
        text = f"{self.weights:,} weights"
        if self.macs_per_second is None:
            return f"{text}; MACs not known: {self.unknown}"
        text = f"{text}, {_short(self.macs_per_second)} MACs per second of audio at {self.sr} Hz"
        return text if self.hop_length is None else f"{text} with `hop_length = {self.hop_length}`"


def model_size(target: Any) -> ModelSize | None:
    """Builds a model with the default arguments, and runs it on a second of noise in the domain that it declares.

    Args:
        target: the class of the model.

    Returns:
        The size, or None for something that is not a module.
    """
    from torch import nn
    from torch.random import fork_rng

    if not isinstance(target, type) or not issubclass(target, nn.Module):
        return None
    acoustics = Acoustics(**declared_acoustics(target))
    signature = signature_of(target)
    needed = [
        f"`{parameter.name}`"
        for parameter in (signature.parameters if signature else ())
        if parameter.default is Parameter.empty
    ]
    if needed:
        return ModelSize(None, None, acoustics.sr, f"it needs {', '.join(needed)}")
    with fork_rng(devices=[]):
        try:
            model = target()
        except Exception as error:
            return ModelSize(None, None, acoustics.sr, f"it can't be built without arguments ({_brief(error)})")
        weights = _trained(model)
        modules = {name: count for name, part in model.named_children() if (count := _trained(part))}
        try:
            # The settings that a model object declares may depend on its arguments.
            declared = declared_acoustics(model)
            acoustics = Acoustics(**declared)
            macs = _macs_per_second(model.eval(), acoustics)
        except Exception as error:
            return ModelSize(weights, None, acoustics.sr, _brief(error), modules)
    unknown = "" if macs is not None else "the model has no attribute `domain`"
    has_frames = macs is not None and getattr(model, "domain", None) != "waveform"
    hop = acoustics.hop_length if has_frames and "hop_length" not in declared else None
    return ModelSize(weights, macs, acoustics.sr, unknown, modules, hop)


def _trained(module: Any) -> int:
    return sum(weight.numel() for weight in module.parameters() if weight.requires_grad)


def _macs_per_second(model: Any, acoustics: Acoustics) -> int | None:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # Only complete hops are counted, so that the result does not depend on the padding at the ends of a clip.
    frames = acoustics.sr // acoustics.hop_length
    spectrum = torch.randn(1, acoustics.n_fft // 2 + 1, frames, dtype=torch.complex64)
    parts = torch.view_as_real(spectrum)
    inputs = {
        "waveform": torch.randn(1, acoustics.sr),
        "magnitude": spectrum.abs(),
        "complex": spectrum,
        "channels_first": parts.movedim(-1, 1).contiguous(),
        "channels_last": parts,
    }
    domain = getattr(model, "domain", None)
    noise = inputs.get(getattr(model, "layout", "complex") if domain == "spectrum" else str(domain))
    if noise is None:
        return None
    counter = FlopCounterMode(display=False, custom_mapping=_recurrent())
    # The counter can't look into fused kernels. Torch has such kernels for attention, and, if gradients are disabled,
    # for whole layers.
    with sdpa_kernel(SDPBackend.MATH), torch.enable_grad(), counter:
        model(noise)
    seconds = 1.0 if domain == "waveform" else frames * acoustics.hop_length / acoustics.sr
    return round(counter.get_total_flops() / 2 / seconds)


def _recurrent() -> dict[Any, Any]:
    """Returns a function that counts the operations of oneDNN's LSTM, because torch does not count them."""
    import torch

    def lstm(x: Any, weight_ih: Any, weight_hh: Any, *_: Any, **__: Any) -> int:
        frames, batch, _size = x
        return 2 * int(frames * batch * (weight_ih[0] * weight_ih[1] + weight_hh[0] * weight_hh[1]))

    return {torch.ops.aten.mkldnn_rnn_layer: lstm}


def _short(number: int) -> str:
    """Formats a large number with three digits and an SI prefix.

    >>> _short(33_039_000), _short(1_500_000_000)
    ('33.0 M', '1.50 G')
    """
    scale, prefix = next((pair for pair in ((1e9, " G"), (1e6, " M"), (1e3, " k")) if number >= pair[0]), (1, ""))
    scaled = number / scale
    digits = 0 if scale == 1 else 2 if scaled < 10 else 1 if scaled < 100 else 0
    return f"{scaled:.{digits}f}{prefix}"


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
