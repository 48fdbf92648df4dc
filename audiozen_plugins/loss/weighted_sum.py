"""A weighted sum of losses. The value of each loss is recorded."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from audiozen_core.binding.inline_components import InlineComponent
from audiozen_plugins.loss.calls import LossDomain, domains_of, loss_value


@dataclass(frozen=True, slots=True)
class WeightedLoss:
    """One part of a weighted sum.

    Attributes:
        loss: the loss; in a TOML file, `path` and `args` define it.
        weight: the factor of the loss in the sum. With a weight of 0, the loss is only recorded.
        name: the name in records: the value is recorded as `train/loss/<name>`. The default is derived from the name of
            the class: `si_snr` for `SiSnrLoss`.
        domain: what the loss compares: a value of `loss_domain` of the trainer `enhancement`. The default is the
            attribute `domain` of the loss, or else the domain of the model.
    """

    loss: Annotated[Callable[..., Any], InlineComponent("loss_function")]
    weight: float = 1.0
    name: str | None = None
    domain: LossDomain | None = None


class WeightedSumLoss(nn.Module):
    """The sum of several losses, each times its weight. The value of each loss, without its weight, is recorded.

    The losses may compare different things, such as waveforms and magnitudes. If a loss returns one value for each
    clip, the mean of these values is used. If a loss declares `higher_is_better`, as the metrics of torchmetrics do,
    its sign is reversed. All losses are computed in full precision.

    Args:
        losses: the losses. In a TOML file, this is an array of tables with `path` and `args`, and optionally `weight`,
            `name` and `domain`.

    Raises:
        ValueError: `losses` is empty, two losses have the same name, a weight is not finite, or all weights are 0.

    Attributes:
        domain: the domains of all losses, without repetitions. None stands for the domain of the model.
        recorded_scalars: the values of the losses in the last call, by name. The trainer reads and clears them.

    Example:
        >>> loss = WeightedSumLoss([WeightedLoss(nn.L1Loss(), 2.0), WeightedLoss(nn.MSELoss(), name="square")])
        >>> loss(torch.zeros(1, 4), torch.full((1, 4), 3.0)), loss.recorded_scalars
        (tensor(15.), {'l1': tensor(3.), 'square': tensor(9.)})
    """

    def __init__(self, losses: Sequence[WeightedLoss]) -> None:
        super().__init__()
        if not losses:
            raise ValueError("a weighted sum needs at least one loss")
        self.modules_of_parts = nn.ModuleDict()
        self.functions: dict[str, Callable[..., Any]] = {}
        self.weights: dict[str, float] = {}
        self.domains: dict[str, tuple[str | None, ...]] = {}
        self.recorded_scalars: dict[str, Tensor] = {}
        for part in losses:
            name = part.name or _name_of(part.loss)
            if name in self.weights:
                raise ValueError(f"two losses are called `{name}`; give one of them another `name`")
            if not re.fullmatch(r"\w+", name):
                raise ValueError(f"the name `{name}` of a loss may have only letters, digits and underscores")
            if not math.isfinite(part.weight):
                raise ValueError(f"the weight of the loss `{name}` is {part.weight}, but must be finite")
            if isinstance(part.loss, nn.Module):
                self.modules_of_parts[name] = part.loss
            else:
                self.functions[name] = part.loss
            self.weights[name] = part.weight
            self.domains[name] = domains_of(part.loss, part.domain)
        if not any(self.weights.values()):
            raise ValueError("all losses have the weight 0, so nothing would be trained")
        self.domain = tuple(dict.fromkeys(domain for own in self.domains.values() for domain in own))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Computes the sum.

        Args:
            inputs: an estimate and a target for each domain in `domain`, in order; or a single estimate and target for
                all losses.

        Returns:
            The sum, a scalar.

        Raises:
            ValueError: the number of inputs is wrong, or a loss does not return a tensor.
        """
        pairs = dict(zip(self.domain, zip(inputs[::2], inputs[1::2], strict=False), strict=False))
        if len(inputs) == 2 and all(len(own) == 1 for own in self.domains.values()):
            pairs = dict.fromkeys(self.domain, inputs)
        elif len(inputs) != 2 * len(self.domain):
            raise ValueError(
                f"the losses compare {len(self.domain)} pairs ({', '.join(map(str, self.domain))}), so they need "
                f"{2 * len(self.domain)} inputs, not {len(inputs)}"
            )
        terms = []
        for name, weight in self.weights.items():
            loss = self.functions[name] if name in self.functions else self.modules_of_parts[name]
            given = [_full(signal) for domain in self.domains[name] for signal in pairs[domain]]
            # A loss with a weight of 0 is only recorded, and does not change the sum even if it is NaN.
            trained = torch.is_grad_enabled() and weight != 0
            with torch.autocast(given[0].device.type, enabled=False), torch.set_grad_enabled(trained):
                value = loss_value(loss, *given)
            if not isinstance(value, Tensor) or value.ndim:
                got = (
                    f"but one of shape {list(value.shape)}"
                    if isinstance(value, Tensor)
                    else f"but a {type(value).__name__}"
                )
                raise ValueError(f"the loss `{name}` does not return a scalar tensor, {got}")
            self.recorded_scalars[name] = _as_reported(loss, value.detach())
            if weight:
                terms.append(weight * value)
        return torch.stack(terms).sum()


def _full(signal: Tensor) -> Tensor:
    return signal.float() if signal.dtype in (torch.float16, torch.bfloat16) else signal


def _as_reported(loss: Any, value: Tensor) -> Tensor:
    """Reverses the sign again if `loss_value` has reversed it, so that records show the loss's own value."""
    return -value if getattr(loss, "higher_is_better", None) is True else value


def _name_of(loss: Any) -> str:
    """Returns the name of the class or the function of a loss in small letters: `si_snr` for `SiSnrLoss`."""
    while hasattr(loss, "func"):
        loss = loss.func
    name = getattr(loss, "__name__", type(loss).__name__)
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    return name.removesuffix("_loss") or name
