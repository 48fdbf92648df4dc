"""Explains in a few lines why weights do not fit a network, however many there are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audiozen_core.errors import CheckpointError

_SHOWN_GROUPS = 4
_SHOWN_NAMES = 2
_SHOWN_SHAPES = 3


@dataclass(frozen=True)
class WeightMismatch:
    """The differences between the weights of a checkpoint and those of a network.

    Attributes:
        missing: the names that only the network has.
        unexpected: the names that only the checkpoint has.
        shapes: the names with different shapes: the shape in the checkpoint, and that in the network.
    """

    missing: Sequence[str]
    unexpected: Sequence[str]
    shapes: Mapping[str, tuple[list[int], list[int]]]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    @property
    def notes(self) -> tuple[str, ...]:
        """One note for each kind of difference: how many there are, and the first ones, grouped by prefix."""
        notes = []
        if self.missing:
            notes.append(f"note: only the network has {_counted(self.missing)}: {_groups(self.missing)}")
        if self.unexpected:
            notes.append(f"note: only the checkpoint has {_counted(self.unexpected)}: {_groups(self.unexpected)}")
        if self.shapes:
            shown = [f"`{name}`: {saved} and {wanted}" for name, (saved, wanted) in self.shapes.items()]
            more = ", …" * (len(shown) > _SHOWN_SHAPES)
            notes.append(
                f"note: {_counted(self.shapes)} with different shapes in the checkpoint and in the network: "
                f"{', '.join(shown[:_SHOWN_SHAPES])}{more}"
            )
        return tuple(notes)

    @property
    def cause(self) -> str:
        """The likely cause: a prefix, another size, or another number of layers; "" if none of them is likely."""
        if (prefix := _prefix(self.unexpected, self.missing)) is not None:
            return f"the names in the checkpoint begin with `{prefix}`, those of the network do not"
        if (prefix := _prefix(self.missing, self.unexpected)) is not None:
            return f"the names of the network begin with `{prefix}`, those in the checkpoint do not"
        if self.shapes and not self.missing and not self.unexpected:
            sizes = Counter(pair for saved, wanted in self.shapes.values() for pair in _changed_sizes(saved, wanted))
            ((pair, _),) = sizes.most_common(1) or [((0, 0), 0)]
            return f"a size of the network has changed{f' from {pair[0]} to {pair[1]}' if sizes else ''}"
        if not self.shapes and bool(self.missing) != bool(self.unexpected):
            which = "more" if self.missing else "fewer"
            return f"the network has {which} layers than when the checkpoint was saved"
        return ""


def mismatch_error(message: str, error: Exception, mismatch: WeightMismatch, *, remedy: str) -> CheckpointError:
    """Returns the error for weights that a network has refused.

    Args:
        message: which weights do not fit what.
        error: the error of torch. It is shown only if the names and shapes are not the reason.
        mismatch: the differences between the network and the weights that it has refused.
        remedy: what to do about it. The likely cause is put before it.
    """
    remedy = "; ".join(filter(None, (mismatch.cause, remedy)))
    return CheckpointError(message, notes=mismatch.notes or (f"torch says: {error}",), remedy=remedy)


def compare_weights(wanted: Mapping[str, Any], weights: Mapping[str, Any]) -> WeightMismatch:
    """Returns the differences between the state of a network and the weights that it is to load, both by name."""
    shapes = {
        name: (list(saved), list(own))
        for name in wanted
        if name in weights and (saved := _shape(weights[name])) != (own := _shape(wanted[name]))
    }
    return WeightMismatch(
        [name for name in wanted if name not in weights], [name for name in weights if name not in wanted], shapes
    )


def _shape(weight: Any) -> tuple[int, ...]:
    # A `state_dict` may also hold a module's extra state. The extra state need not be a tensor.
    return tuple(getattr(weight, "shape", ()))


def _counted(names: Sequence[str] | Mapping[str, Any]) -> str:
    return f"{len(names)} weight{'s' * (len(names) != 1)}"


def _groups(names: Sequence[str]) -> str:
    """Returns the names as text, grouped by the first part of the name in which they differ."""
    split = [name.split(".") for name in names]
    depth = next((depth for depth, parts in enumerate(zip(*split, strict=False)) if len(set(parts)) > 1), 0)
    groups: dict[str, list[str]] = {}
    for name, parts in zip(names, split, strict=True):
        groups.setdefault(".".join(parts[: depth + 1]), []).append(name)
    shown = [_group(prefix, group) for prefix, group in list(groups.items())[:_SHOWN_GROUPS]]
    rest = len(names) - sum(len(group) for group in list(groups.values())[:_SHOWN_GROUPS])
    return ", ".join([*shown, *[f"and {rest} more"] * bool(rest)])


def _group(prefix: str, names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"`{names[0]}`"
    shown = ", ".join(f"`{name}`" for name in names[:_SHOWN_NAMES])
    return f"{len(names)} in `{prefix}` ({shown}{', …' * (len(names) > _SHOWN_NAMES)})"


def _prefix(longer: Sequence[str], shorter: Sequence[str]) -> str | None:
    """Returns the prefix that makes each of the shorter names one of the longer names; None if there is none."""
    if not shorter or not longer:
        return None
    for name in longer:
        prefix = name[: -len(shorter[0])]
        if name.endswith(f".{shorter[0]}") and {f"{prefix}{short}" for short in shorter} <= set(longer):
            return prefix
    return None


def _changed_sizes(saved: Sequence[int], wanted: Sequence[int]) -> list[tuple[int, int]]:
    return [(old, new) for old, new in zip(saved, wanted, strict=False) if old != new]
