"""Calls a loss from any package: finds its inputs, and makes its result a scalar to minimise.

AudioZEN's losses declare in the attribute `domain` which inputs they need. The losses of auraloss and torchmetrics have
no such attribute, and would treat a magnitude as a waveform. So this module lists the domains for these packages.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

from torch import Tensor

from audiozen_core.errors import RunError
from audiozen_core.trainer.input_copies import CopiesInputs
from audiozen_core.trainer.losses import LossOfModules

LossDomain = Literal["waveform", "waveform_with_channel", "magnitude", "spectrum", "features", "both"]
"""What a loss compares. `docs/domains.md` has the shapes."""

# The packages whose losses take waveforms, by the beginning of their module names.
_OF_PACKAGES: dict[str, LossDomain] = {
    "auraloss": "waveform_with_channel",
    "torchmetrics.audio": "waveform",
}
# Unlike the classes of torchmetrics, the functions in these modules have no attribute `higher_is_better`.
_WITHOUT_DIRECTION = "torchmetrics.functional.audio."


def domains_of(loss: Any, chosen: LossDomain | None = None) -> tuple[str | None, ...]:
    """Returns the domains that a loss compares, in order. None stands for the domain of the model.

    `both` means two domains: the waveforms, then the magnitudes. `chosen` is the domain in the TOML file, which has
    priority.

    Raises:
        RunError: the loss is a function of `torchmetrics.functional.audio`. To minimise it would make the signal worse.

    >>> from audiozen_plugins.loss.si_snr import SiSnrMagnitudeLoss
    >>> from torch import nn
    >>> domains_of(SiSnrMagnitudeLoss()), domains_of(nn.L1Loss())
    (('waveform', 'magnitude'), (None,))
    """
    domain = chosen or getattr(loss, "domain", None)
    if f"{_module_of(loss)}.".startswith(_WITHOUT_DIRECTION):
        name = getattr(_innermost(loss), "__name__", "loss")
        raise RunError(
            f"the function `{name}` of torchmetrics does not declare that a higher value is better, so training would "
            "make the value as low as possible",
            remedy="use the class, such as `torchmetrics.audio.SignalNoiseRatio`: it becomes a loss with the opposite "
            "sign",
        )
    if domain is None:
        package = _module_of(loss)
        domain = next((known for name, known in _OF_PACKAGES.items() if f"{package}.".startswith(f"{name}.")), None)
    return expanded(domain)


def expanded(domain: Any) -> tuple[str | None, ...]:
    """Returns the domains in `domain`: a name, a tuple of names, or None."""
    if isinstance(domain, tuple):
        return domain
    return ("waveform", "magnitude") if domain == "both" else (domain,)


def loss_value(loss: Callable[..., Any], *inputs: Tensor) -> Tensor:
    """Calls a loss, and returns a scalar to minimise.

    If the loss returns one value for each clip, the result is the mean of these values. If the loss declares
    `higher_is_better`, as the metrics of torchmetrics do, the sign of the value is reversed. Metrics of torchmetrics
    are reset, because otherwise they would collect all batches.
    """
    value: Tensor = loss(*inputs)
    if isinstance(value, Tensor) and not value.is_complex():
        value = value.mean() if value.ndim == 1 else value
        if getattr(loss, "higher_is_better", None) is True:
            value = -value
    if _module_of(loss).startswith("torchmetrics."):
        getattr(_innermost(loss), "reset", bool)()
    return value


def _innermost(loss: Any) -> Any:
    while isinstance(loss, functools.partial | CopiesInputs | LossOfModules):
        loss = loss.func if isinstance(loss, functools.partial) else loss.function
    return loss


def _module_of(loss: Any) -> str:
    loss = _innermost(loss)
    return str(getattr(loss if hasattr(loss, "__qualname__") else type(loss), "__module__", ""))
