"""Saves and loads the state of a network without the name prefixes that `torch.compile` or DDP add."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from torch import nn

from audiozen_core.checkpoint.mismatch import WeightMismatch, compare_weights
from audiozen_core.distributed.sharding import shard_like

# The attributes in which wrappers hold the wrapped module. A wrapper has no other child.
_INNER = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module")


class ModuleState:
    """Saves and loads a module without the prefixes of wrappers, such as `_orig_mod.` or `module.`.

    A compiled or wrapped network can therefore load the checkpoint of a plain network, and vice versa.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of the module, without prefixes."""
        prefixes = list(_prefixes(self.module))
        return {_clean(name, prefixes): value for name, value in self.module.state_dict().items()}

    def load_state_dict(self, state_dict: Mapping[str, Any], /, *, strict: bool = True) -> None:
        """Loads a state, with or without prefixes. With `strict=False`, entries of the module can be missing.

        Raises:
            RuntimeError: the state does not fit the module. Unlike in torch, it is also an error if a weight would be
                converted between float and integer, or if the state has two values for one weight.
        """
        mismatch = self.compare(state_dict)
        if mismatch.dtypes or mismatch.repeated:
            raise RuntimeError("\n".join(mismatch.notes))
        own_names = self._own_names()
        weights, _ = _without_wrappers(state_dict, own_names)
        current = self.module.state_dict()
        renamed = {own_names.get(clean, clean): value for clean, value in weights.items()}
        self.module.load_state_dict(
            {name: shard_like(value, current[name]) if name in current else value for name, value in renamed.items()},
            strict=strict,
        )

    def without_wrappers(self, state_dict: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a state without the prefixes of wrappers. Entries that the module does not have keep their names."""
        return _without_wrappers(state_dict, self._own_names())[0]

    def compare(self, state_dict: Mapping[str, Any]) -> WeightMismatch:
        """Returns the differences between the module and a state to load. The state can have prefixes."""
        return compare_weights(self.state_dict(), *_without_wrappers(state_dict, self._own_names()))

    def _own_names(self) -> dict[str, str]:
        """Returns a mapping from the names without prefixes to the names that the module uses."""
        prefixes = list(_prefixes(self.module))
        return {_clean(name, prefixes): name for name in self.module.state_dict()}


def parameter_names(module: nn.Module) -> dict[str, nn.Parameter]:
    """Returns the parameters of a module by their names without prefixes. A tied parameter appears under each name."""
    prefixes = list(_prefixes(module))
    return {_clean(name, prefixes): weight for name, weight in module.named_parameters(remove_duplicate=False)}


def unwrapped(module: nn.Module) -> nn.Module:
    """Returns the network itself, without the wrappers around it."""
    while inner := _inner_name(module):
        module = module.get_submodule(inner)
    return module


def named_weights(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yields each parameter once, under its name in checkpoints.

    These names lack the prefixes that `torch.compile` and other wrappers add in `named_parameters`, such as
    `_orig_mod.`.

    Args:
        module: a network, with or without wrappers.
    """
    prefixes = list(_prefixes(module))
    for name, weight in module.named_parameters():
        yield _clean(name, prefixes), weight


def _prefixes(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Yields two prefixes for each wrapper, innermost first: without and with the part that the wrapper adds."""
    named = module.named_modules(remove_duplicate=False)
    wrappers = [(name, inner) for name, part in named if (inner := _inner_name(part))]
    for name, inner in reversed(wrappers):
        outer = f"{name}." if name else ""
        yield outer, f"{outer}{inner}."


def _inner_name(module: nn.Module) -> str | None:
    """Returns the name of the module that a wrapper wraps; None if the module is not a wrapper.

    A plain network can also have `module` as its only child, so this name counts only in torch's own wrappers.
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
    state_dict: Mapping[str, Any], own_names: Collection[str]
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """Returns a state with names without prefixes, and the pairs of names that refer to the same entry.

    An entry that the module does not have keeps its name.
    """
    names: dict[str, str] = {}
    repeated = []
    for name in state_dict:
        clean = _name_in(own_names, name)
        if (first := names.setdefault(clean, name)) != name:
            # The shorter name comes first, so that the result does not depend on the order of the state.
            repeated.append((min(first, name, key=len), max(first, name, key=len)))
    return {clean: state_dict[name] for clean, name in names.items()}, sorted(repeated)


def _name_in(own_names: Collection[str], name: str) -> str:
    # Checkpoints of other toolkits can have prefixes. They are removed one at a time until the name exists, because a
    # network can also have a real child named `module`.
    parts = name.split(".")
    while (shorter := ".".join(parts)) not in own_names:
        wrapper = next((part for part in parts if part in _INNER), None)
        if wrapper is None:
            return name
        parts.remove(wrapper)
    return shorter
