"""The state of a network under the names of its own modules, whatever `torch.compile` or DDP has wrapped around it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import nn

from audiozen_core.checkpoint.mismatch import WeightMismatch, compare_weights
from audiozen_core.distributed.sharding import shard_like

# The names that wrappers give to the module that they wrap. A wrapper has no other child.
_INNER = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module")


class ModuleState:
    """Saves and loads a module without the prefixes of wrappers, such as `_orig_mod.` or `module.`.

    A compiled or wrapped network can therefore load the checkpoint of a plain one, and the other way round.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the module, without prefixes."""
        prefixes = list(_prefixes(self.module))
        return {_clean(name, prefixes): value for name, value in self.module.state_dict().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> None:
        """Loads a state, with or without prefixes.

        Raises:
            RuntimeError: the state does not fit, as torch says; or torch would convert floats and integers into each
                other, or choose one of two values for a weight.
        """
        mismatch = self.compare(state_dict)
        if mismatch.dtypes or mismatch.repeated:
            raise RuntimeError("\n".join(mismatch.notes))
        own = self._own_names()
        weights, _ = _without_wrappers(state_dict, own)
        current = self.module.state_dict()
        names = {own.get(clean, clean): value for clean, value in weights.items()}
        self.module.load_state_dict(
            {name: shard_like(value, current[name]) if name in current else value for name, value in names.items()}
        )

    def compare(self, state_dict: Mapping[str, Any]) -> WeightMismatch:
        """Returns the differences between the module and a state that it is to load, with or without prefixes."""
        return compare_weights(self.state_dict(), *_without_wrappers(state_dict, self._own_names()))

    def _own_names(self) -> dict[str, str]:
        """Returns the names of the module's entries, by the names without prefixes."""
        prefixes = list(_prefixes(self.module))
        return {_clean(name, prefixes): name for name in self.module.state_dict()}


def unwrapped(module: nn.Module) -> nn.Module:
    """Returns the network itself, without the wrappers around it."""
    while inner := _inner_name(module):
        module = module.get_submodule(inner)
    return module


def named_weights(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yields the parameters under the names that checkpoints have, each once.

    `torch.compile` and other wrappers add prefixes to the names of `named_parameters`, such as `_orig_mod.`.

    Args:
        module: a network, with or without wrappers.
    """
    prefixes = list(_prefixes(module))
    for name, weight in module.named_parameters():
        yield _clean(name, prefixes), weight


def _prefixes(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Yields each wrapper's prefix and the one that its inner module adds to it, the innermost wrappers first."""
    named = module.named_modules(remove_duplicate=False)
    wrappers = [(name, inner) for name, part in named if (inner := _inner_name(part))]
    for name, inner in reversed(wrappers):
        outer = f"{name}." if name else ""
        yield outer, f"{outer}{inner}."


def _inner_name(module: nn.Module) -> str | None:
    """Returns the name of the module that a wrapper wraps; None if the module is not a wrapper.

    A network may have a child that is called `module`, so only the wrappers of torch count there.
    """
    children = [name for name, _ in module.named_children()]
    if len(children) != 1 or children[0] not in _INNER:
        return None
    if children[0] == "module" and not isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
        return None
    return children[0]


def _clean(name: str, prefixes: list[tuple[str, str]]) -> str:
    for outer, inner in prefixes:
        if name.startswith(inner):
            name = outer + name.removeprefix(inner)
    return name


def _without_wrappers(
    state_dict: Mapping[str, Any], own: Collection[str]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Returns a state under the names without prefixes, and the two names of each entry that is there twice.

    An entry that the module does not have keeps its name.
    """
    names: dict[str, str] = {}
    repeated = []
    for name in state_dict:
        clean = _name_in(own, name)
        if (first := names.setdefault(clean, name)) != name:
            # Files of weights have no order.
            repeated.append((min(first, name, key=len), max(first, name, key=len)))
    return {clean: state_dict[name] for clean, name in names.items()}, sorted(repeated)


def _name_in(own: Collection[str], name: str) -> str:
    # A file of another toolkit may have prefixes. They are removed one by one, so that a real child called `module` is
    # found.
    parts = name.split(".")
    while (shorter := ".".join(parts)) not in own:
        wrapper = next((part for part in parts if part in _INNER), None)
        if wrapper is None:
            return name
        parts.remove(wrapper)
    return shorter
