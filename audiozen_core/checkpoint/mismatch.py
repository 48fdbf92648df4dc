"""Explains in a few lines why the weights of a checkpoint do not fit a network, even if many weights differ."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from audiozen_core.errors import CheckpointError

if TYPE_CHECKING:
    import torch

_SHOWN_GROUPS = 4
_SHOWN_NAMES = 2
_SHOWN_PAIRS = 3


@dataclass(frozen=True)
class WeightMismatch:
    """The differences between the weights of a checkpoint and the weights of a network.

    Attributes:
        missing: the names that only the network has.
        unexpected: the names that only the checkpoint has.
        shapes: maps the names of weights with different shapes to their shape in the checkpoint and in the network.
        dtypes: maps the names of weights with incompatible dtypes to their dtype in the checkpoint and in the network.
        repeated: the weights that the checkpoint has twice, under a name with the prefix of a wrapper (such as
            `module.`) and under the name without it; both names of each.
    """

    missing: Sequence[str]
    unexpected: Sequence[str]
    shapes: Mapping[str, tuple[list[int], list[int]]]
    dtypes: Mapping[str, tuple[str, str]]
    repeated: Sequence[tuple[str, str]]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes or self.dtypes or self.repeated)

    @property
    def notes(self) -> tuple[str, ...]:
        """One note for each kind of difference, with the number of weights and the first few names."""
        notes = []
        if self.missing:
            notes.append(f"note: only the network has {_counted(self.missing)}: {_groups(self.missing)}")
        if self.unexpected:
            notes.append(f"note: only the checkpoint has {_counted(self.unexpected)}: {_groups(self.unexpected)}")
        for pairs, what in ((self.shapes, "shapes"), (self.dtypes, "kinds of numbers")):
            if pairs:
                shown = [f"`{name}`: {saved} and {wanted}" for name, (saved, wanted) in pairs.items()]
                notes.append(
                    f"note: {_counted(pairs)} with different {what} in the checkpoint and in the network: "
                    f"{_first(shown)}"
                )
        if self.repeated:
            shown = [f"`{name}` and `{other}`" for name, other in self.repeated]
            notes.append(f"note: the checkpoint has {_counted(self.repeated)} under two names: {_first(shown)}")
        return tuple(notes)

    @property
    def cause(self) -> str:
        """The likely cause of the mismatch, or how to mend it; "" if it is unknown. It is put before the remedy."""
        if self.repeated:
            return "remove one of the two names from the checkpoint, because it is unclear which weights are meant"
        if (prefix := _prefix(self.unexpected, self.missing)) is not None:
            return f"the names in the checkpoint begin with `{prefix}`, but the names in the network do not"
        if (prefix := _prefix(self.missing, self.unexpected)) is not None:
            return f"the names in the network begin with `{prefix}`, but the names in the checkpoint do not"
        if self.shapes and not self.missing and not self.unexpected:
            sizes = Counter(pair for saved, wanted in self.shapes.values() for pair in _changed_sizes(saved, wanted))
            ((pair, _),) = sizes.most_common(1) or [((0, 0), 0)]
            return f"a size of the network has changed{f' from {pair[0]} to {pair[1]}' if sizes else ''}"
        if not self.shapes and bool(self.missing) != bool(self.unexpected):
            which = "more" if self.missing else "fewer"
            return f"the network has {which} layers than when the checkpoint was saved"
        if self.dtypes and not self.shapes and not self.missing and not self.unexpected:
            return (
                "convert these tensors of the checkpoint to the dtypes of the network; if they are quantised, apply "
                "their scales"
            )
        return ""


def mismatch_error(message: str, error: Exception, mismatch: WeightMismatch, *, remedy: str) -> CheckpointError:
    """Returns the error for weights that could not be loaded into a network.

    Args:
        message: which weights do not fit which network.
        error: the error of torch. It is shown only if the names and shapes are not the reason.
        mismatch: the differences between the network and the weights.
        remedy: what to do. In the error, the likely cause comes first, then the remedy.
    """
    remedy = "; ".join(filter(None, (mismatch.cause, remedy)))
    return CheckpointError(message, notes=mismatch.notes or (f"torch says: {error}",), remedy=remedy)


def compare_weights(
    wanted: Mapping[str, Any], weights: Mapping[str, Any], repeated: Sequence[tuple[str, str]] = ()
) -> WeightMismatch:
    """Compares the state of a network with the weights to load.

    Args:
        wanted: the state of the network: its tensors by name.
        weights: the weights to load, also by name.
        repeated: the two names of each weight that the checkpoint has twice.
    """
    from torch.nn.parameter import is_lazy

    shapes = {
        name: (list(saved), list(own))
        for name in wanted
        if name in weights
        and not is_lazy(wanted[name])  # takes every shape
        and (saved := _shape(weights[name])) != (own := _shape(wanted[name]))
    }
    dtypes = {
        name: (str(saved.dtype).removeprefix("torch."), str(wanted[name].dtype).removeprefix("torch."))
        for name, saved in weights.items()
        if name in wanted and not _casts(saved, wanted[name])
    }
    return WeightMismatch(
        [name for name in wanted if name not in weights],
        [name for name in weights if name not in wanted],
        shapes,
        dtypes,
        repeated,
    )


def _casts(saved: Any, wanted: Any) -> bool:
    """Returns whether loading may convert a saved tensor to the dtype of the network's tensor.

    Torch itself would convert any dtype to any other. Here, floats may change their precision, and integers may change
    their size if the new dtype holds all values of the old one. Integers are not converted to floats, because they are
    probably quantised weights without their scale. Floats are not converted to integers, because they would be
    truncated.
    """
    import torch

    if not isinstance(saved, torch.Tensor) or not isinstance(wanted, torch.Tensor):
        return True
    before, now = saved.dtype, wanted.dtype
    if before == now:
        return True
    if before.is_floating_point or before.is_complex or now.is_floating_point or now.is_complex:
        return before.is_floating_point == now.is_floating_point and before.is_complex == now.is_complex
    return torch.bool not in (before, now) and _holds(torch.iinfo(now), torch.iinfo(before))


def _holds(outer: torch.iinfo, inner: torch.iinfo) -> bool:
    return outer.min <= inner.min and inner.max <= outer.max


def _shape(weight: Any) -> tuple[int, ...]:
    # A `state_dict` may also contain a module's extra state, which need not be a tensor.
    return tuple(getattr(weight, "shape", ()))


def _first(shown: Sequence[str]) -> str:
    return ", ".join(shown[:_SHOWN_PAIRS]) + ", …" * (len(shown) > _SHOWN_PAIRS)


def _counted(names: Collection[Any]) -> str:
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
    """Returns a prefix that turns each of the shorter names into one of the longer names; None if there is none."""
    if not shorter or not longer:
        return None
    for name in longer:
        prefix = name[: -len(shorter[0])]
        if name.endswith(f".{shorter[0]}") and {f"{prefix}{short}" for short in shorter} <= set(longer):
            return prefix
    return None


def _changed_sizes(saved: Sequence[int], wanted: Sequence[int]) -> list[tuple[int, int]]:
    return [(old, new) for old, new in zip(saved, wanted, strict=False) if old != new]
