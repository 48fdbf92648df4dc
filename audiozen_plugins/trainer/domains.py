"""The domain of an enhancement network: the form of its input and output, and where a model declares it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import torch
from torch import Tensor, nn

from audiozen_core.audio.acoustics import Acoustics, contradictions, declared_acoustics
from audiozen_core.binding.ranges import Range
from audiozen_core.errors import RunError
from audiozen_core.trainer.module_state import unwrapped

Domain = Literal["waveform", "magnitude", "spectrum"]
Layout = Literal["complex", "channels_first", "channels_last"]
# The inverse of a power below 0.1 is a power above 10, which would make rounding errors of float32 audible.
Compression = Annotated[float, Range(least=0.1, most=1)] | Literal["log1p"]

DECLARED = ("domain", "layout", "compression")
"""The arguments of the trainer that a model may declare as attributes of the same names."""

SHAPES: Mapping[str, str] = {
    "waveform": "[batch, time], or [batch, 1, time] with `add_channel = true`",
    "magnitude": "[batch, n_fft // 2 + 1, frames]",
    "complex": "complex [batch, n_fft // 2 + 1, frames]",
    "channels_first": "[batch, 2, n_fft // 2 + 1, frames], real and imaginary part",
    "channels_last": "[batch, n_fft // 2 + 1, frames, 2], real and imaginary part",
}
"""The shape of a model's input as text, by domain or layout."""


@dataclass(frozen=True, slots=True)
class ModelDomain:
    """The form of a network's input and output.

    Attributes:
        domain: `waveform`, `magnitude` or `spectrum`.
        layout: how a complex spectrum is passed.
        compression: the power that compresses the magnitudes, or `log1p`; None for no compression.

    Example:
        >>> spectrum = torch.tensor([[[3 + 4j]]])
        >>> ModelDomain("spectrum", "channels_first").to_model(spectrum).shape
        torch.Size([1, 2, 1, 1])
        >>> ModelDomain("magnitude", compression=0.5).to_model(spectrum)
        tensor([[[2.2361]]])
    """

    domain: Domain = "magnitude"
    layout: Layout = "complex"
    compression: float | Literal["log1p"] | None = None

    @property
    def shape(self) -> str:
        """The shape of the network's input as text."""
        return SHAPES[self.layout if self.domain == "spectrum" else self.domain]

    def to_model(self, spectrum: Tensor) -> Tensor:
        """Makes the input of the network from complex spectra [batch, frequencies, frames]."""
        if self.domain == "magnitude":
            return self._compressed(spectrum.abs())
        if self.compression is not None:
            spectrum = self._compressed(spectrum.abs()) * phase(spectrum)
        if self.layout == "complex":
            return spectrum
        parts = torch.view_as_real(spectrum)
        return parts.movedim(-1, 1).contiguous() if self.layout == "channels_first" else parts

    def from_model(self, output: Tensor) -> Tensor:
        """Converts the output of the network to magnitudes or complex spectra [batch, frequencies, frames]."""
        if self.domain == "magnitude":
            # A network may return a negative magnitude, which reverses the phase. Expanding keeps the sign.
            return output if self.compression is None else self._expanded(output.abs()) * output.sign()
        if not output.is_complex():
            parts = output.movedim(1, -1) if self.layout == "channels_first" else output
            output = torch.view_as_complex(parts) if _is_interleaved(parts) else torch.complex(*parts.unbind(-1))
        if self.compression is None:
            return output
        # The lower limit keeps the gradient finite where the output is 0.
        magnitude = output.abs().clamp_min(1e-12)
        return output * (self._expanded(magnitude) / magnitude)

    def _compressed(self, magnitude: Tensor) -> Tensor:
        if self.compression is None:
            return magnitude
        return magnitude.log1p() if self.compression == "log1p" else magnitude**self.compression

    def _expanded(self, magnitude: Tensor) -> Tensor:
        assert self.compression is not None  # both callers have checked it
        return magnitude.expm1() if self.compression == "log1p" else magnitude ** (1 / self.compression)


def _is_interleaved(parts: Tensor) -> bool:
    """Returns whether the real and imaginary parts [..., 2] are already complex numbers in memory."""
    places = (parts.storage_offset(), *parts.stride()[:-1])
    return parts.stride(-1) == 1 and not any(place % 2 for place in places)


def phase(spectrum: Tensor) -> Tensor:
    """Returns the phase of complex spectra as complex numbers of magnitude 1; 0 where a spectrum is 0."""
    magnitude = spectrum.abs()
    return spectrum / magnitude.clamp_min(torch.finfo(magnitude.dtype).tiny)


def choose_domain(model: Any, args: Mapping[str, Any]) -> ModelDomain:
    """Returns the domain that the trainer's arguments or the model declare; `magnitude` if neither does.

    Args:
        model: the network, or its class.
        args: the arguments of the trainer. Arguments that the user did not set may be missing or None.
    """
    declared = _declared(model)
    chosen = {name: args.get(name) if args.get(name) is not None else declared.get(name) for name in DECLARED}
    return ModelDomain(**{name: value for name, value in chosen.items() if value is not None})


def domain_errors(model: Any, args: Mapping[str, Any]) -> Iterator[tuple[str, RunError]]:
    """Yields the errors in the domain of a model, each with the name of the trainer's argument that is wrong.

    Args:
        model: the network, or its class.
        args: the arguments of the trainer.
    """
    name = model.__name__ if isinstance(model, type) else type(model).__name__
    for argument, own in _declared(model).items():
        given = args.get(argument)
        if not _is_possible(argument, own):
            yield (
                argument,
                RunError(
                    f"the model `{name}` has the attribute `{argument} = {own!r}`, which is not a {argument}",
                    remedy=f"{_CHOICES[argument]}; give the attribute another name if it means something else",
                ),
            )
            return
        if given is not None and given != own:
            yield (
                argument,
                RunError(
                    f"`{argument}` in [trainer.args] is {given!r}, but the model `{name}` declares {own!r}",
                    remedy=f"leave `{argument}` out of [trainer.args], because the model declares it",
                ),
            )
    chosen = choose_domain(model, args)
    if chosen.domain != "spectrum" and args.get("layout") is not None:
        yield "layout", _no_effect("layout", chosen.domain, "only a complex spectrum has a layout")
    if chosen.domain == "waveform" and args.get("compression") is not None:
        yield "compression", _no_effect("compression", chosen.domain, "only magnitudes and spectra are compressed")


def part_error(model: nn.Module, chosen: ModelDomain, args: Mapping[str, Any], acoustics: Acoustics) -> RunError | None:
    """Returns an error if a model declares nothing itself, but contains a module that declares a different domain.

    A model that wraps another model may transform its input. So the domain of the inner model may not apply to the
    whole model, and the user must say which domain is right. Returns None if there is no such module.

    Args:
        model: the network.
        chosen: the domain of the model.
        args: the arguments of the trainer.
        acoustics: the settings of the experiment.
    """
    model = unwrapped(model)
    says_domain = args.get("domain") is not None or "domain" in _declared(model)
    says_acoustics = bool(declared_acoustics(model)) or chosen.domain == "waveform"
    whole = f"the model `{type(model).__name__}`"
    for name, part in list(model.named_modules())[1:]:
        own = _declared(part).get("domain")
        if not says_domain and own in get_args(Domain) and own != chosen.domain:
            return RunError(
                f"{whole} does not declare its domain, but its part `{name}` ({type(part).__name__}) declares {own!r}",
                remedy=f"set `domain` in [trainer.args], or the attribute `domain` of `{type(model).__name__}`, to "
                "the domain of the whole model's input",
            )
        if not says_acoustics and (found := contradictions(declared_acoustics(part), acoustics)):
            key, (value, other) = next(iter(found.items()))
            return RunError(
                f"{whole} does not declare its acoustics, but its part `{name}` ({type(part).__name__}) declares "
                f"`{key} = {value!r}`, and [acoustics] has {other!r}",
                remedy=f"set `{key}` in [acoustics], or give `{type(model).__name__}` an attribute `acoustics`",
            )
    return None


_CHOICES = {
    "domain": f"a domain is one of {', '.join(get_args(Domain))}",
    "layout": f"a layout is one of {', '.join(get_args(Layout))}",
    "compression": 'a compression is a power from 0.1 to 1, or "log1p"',
}


def _declared(model: Any) -> dict[str, Any]:
    """Returns the arguments that a model declares as attributes. Properties count only if `model` is an object."""
    model = unwrapped(model) if isinstance(model, nn.Module) else model
    found = {name: getattr(model, name, None) for name in DECLARED}
    found = {name: value for name, value in found.items() if isinstance(value, str | int | float)}
    # Without a domain, `compression = 8` is probably something else, such as the factor of a codec.
    return found if "domain" in found else {name: value for name, value in found.items() if _is_possible(name, value)}


def _is_possible(argument: str, value: Any) -> bool:
    if argument == "compression":
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return value == "log1p" or (is_number and 0.1 <= value <= 1)
    return value in get_args(Domain if argument == "domain" else Layout)


def _no_effect(argument: str, domain: str, why: str) -> RunError:
    return RunError(
        f"`{argument}` has no effect on a model in the domain {domain!r}: {why}",
        remedy=f"leave `{argument}` out of [trainer.args], or set another `domain`",
    )
