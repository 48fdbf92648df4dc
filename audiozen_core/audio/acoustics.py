"""The section `[acoustics]`. All components of an experiment share its settings. This module does not import torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audiozen_core.binding.ranges import Positive
from audiozen_core.binding.settings import setting

# The windows by name, with the name of the window's parameter and whether the parameter is required. All windows except
# `sqrt_hann` and `rectangular` are in `torch.signal.windows`.
WINDOWS: dict[str, tuple[str, bool]] = {
    "hann": ("", False),
    "sqrt_hann": ("", False),
    "rectangular": ("", False),
    "hamming": ("", False),
    "blackman": ("", False),
    "nuttall": ("", False),
    "bartlett": ("", False),
    "cosine": ("", False),
    "kaiser": ("beta", False),
    "general_hamming": ("alpha", False),
    "gaussian": ("std", True),
    "exponential": ("tau", True),
    "general_cosine": ("a", True),
}


@dataclass(frozen=True, slots=True)
class Acoustics:
    """The section `[acoustics]`."""

    sr: Positive = setting("the sample rate, in hertz", default=16000)
    n_fft: Positive = setting("the FFT size, in samples", default=512)
    hop_length: Positive = setting("the number of samples between successive frames", default=256)
    win_length: Positive = setting("the length of the STFT window, in samples; at most `n_fft`", default=512)
    window: str = setting("the window of the STFT", default="hann", choices=tuple(WINDOWS))
    window_args: dict[str, Any] = field(
        default_factory=dict,
        hash=False,  # a dict has no hash
        metadata={
            "doc": "the parameters of the window, such as `beta` of `kaiser` or `std` (in samples) of `gaussian`"
        },
    )
    center: bool = setting("whether the first frame is centred on the first sample", default=True)
    pad_mode: str = setting(
        "how `center` pads the wave at both ends: with its mirror image, or with zeros",
        default="reflect",
        choices=("reflect", "constant"),
    )
    normalized: bool = setting("whether the STFT is divided by the square root of `n_fft`", default=False)


def window_error(window: str, args: Mapping[str, Any]) -> str | None:
    """Returns what is wrong with the parameters of a window; None if they are valid.

    >>> window_error("gaussian", {})
    'the window `gaussian` needs `std`'
    >>> window_error("hann", {"beta": 8.0})
    'the window `hann` has no parameter `beta`'
    """
    if window not in WINDOWS:
        return f"the window `{window}` is unknown"
    name, needed = WINDOWS[window]
    if unexpected := sorted(args.keys() - {name}):
        return f"the window `{window}` has no parameter `{unexpected[0]}`"
    if needed and name not in args:
        return f"the window `{window}` needs `{name}`"
    for value in args.values():
        if window == "general_cosine":
            if not isinstance(value, list) or not value or not all(map(_is_number, value)):
                return "`a` of the window `general_cosine` must be an array of numbers, the weights of its cosines"
        elif not _is_number(value) or not 0 < value < float("inf"):
            return f"`{name}` of the window `{window}` must be a number above 0"
    return None


def declared_acoustics(model: Any) -> dict[str, Any]:
    """Returns the settings of `[acoustics]` that a model declares. The model may be an object or a class.

    A model declares them in its attribute `acoustics`: a mapping with some of the keys of the section, or an
    `Acoustics`. If the attribute has any other value, such as an acoustic model, it has another meaning and is ignored.

    >>> class Net:
    ...     acoustics = {"n_fft": 320, "hop_length": 160}
    >>> declared_acoustics(Net), declared_acoustics(int)
    ({'n_fft': 320, 'hop_length': 160}, {})
    """
    declared = getattr(model, "acoustics", None)
    if isinstance(declared, Acoustics):
        return {key.name: getattr(declared, key.name) for key in dataclasses.fields(declared)}
    return dict(declared) if isinstance(declared, Mapping) else {}


def contradictions(declared: Mapping[str, Any], acoustics: Acoustics) -> dict[str, tuple[Any, Any]]:
    """Returns the declared settings that differ from the experiment's, each as (declared value, experiment's value)."""
    settings = {key.name for key in dataclasses.fields(Acoustics)}
    return {
        name: (value, getattr(acoustics, name))
        for name, value in declared.items()
        if name in settings and getattr(acoustics, name) != value
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
