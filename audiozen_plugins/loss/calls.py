"""How a loss of any package is called: what it compares, and what it returns.

Our losses say in their attribute `domain` what they compare. Those of auraloss and torchmetrics do not, and would take
a magnitude for a signal, so their domains are known here.
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

# The packages whose losses take waveforms, as the beginning of their modules.
_OF_PACKAGES: dict[str, LossDomain] = {
    "auraloss": "waveform_with_channel",
    "torchmetrics.audio": "waveform",
}
# The functions of these modules do not say that a higher value is better, as their classes do.
_WITHOUT_DIRECTION = "torchmetrics.functional.audio."


def domains_of(loss: Any, chosen: LossDomain | None = None) -> tuple[str | None, ...]:
    """Returns what a loss compares, in order. None stands for the domain of the model.

    `both` is the waveforms and then the magnitudes, so it is two domains. `chosen` is what the TOML file says, which
    decides.

    Raises:
        RunError: the loss is a function of `torchmetrics.functional.audio`: training would make the signal worse.

    >>> from audiozen_plugins.loss.si_snr import SiSnrMagnitudeLoss
    >>> from torch import nn
    >>> domains_of(SiSnrMagnitudeLoss()), domains_of(nn.L1Loss())
    (('waveform', 'magnitude'), (None,))
    """
    domain = chosen or getattr(loss, "domain", None)
    if f"{_module_of(loss)}.".startswith(_WITHOUT_DIRECTION):
        name = getattr(_innermost(loss), "__name__", "loss")
        raise RunError(
            f"the function `{name}` of torchmetrics does not say that a higher value is better, so a training would "
            "make the value as low as possible",
            remedy="name the class, such as `torchmetrics.audio.SignalNoiseRatio`: it becomes a loss with the opposite "
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
    """Calls a loss. Returns a scalar that is to be minimised.

    A loss with one value for each clip becomes their mean. One that says `higher_is_better`, such as the metrics of
    torchmetrics, becomes negative. A metric of torchmetrics is reset, because it would collect all batches.
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
