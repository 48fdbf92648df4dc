"""Collects and restores the state that a run needs in order to resume exactly."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn

from audiozen_core.checkpoint.mismatch import mismatch_error
from audiozen_core.data.loader import to_device
from audiozen_core.diagnostics.run_options import FINETUNE
from audiozen_core.distributed.ranks import ALONE, Ranks
from audiozen_core.distributed.sharding import is_sharded
from audiozen_core.errors import AudioZenError, CheckpointError
from audiozen_core.hooks.hook_state import HookState, state_name
from audiozen_core.hooks.plugin import Plugin
from audiozen_core.hooks.trainer_protocol import Stateful, Trainer
from audiozen_core.kinds import section_name, split_section
from audiozen_core.logging import get_logger
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.module_state import ModuleState
from audiozen_core.trainer.sharded_state import ShardedOptimizer, sharded_as

EXTRA = "extra"
"""The entry of a checkpoint with the config and the data that hooks add in `on_checkpoint_save`.

It is not a registered state.
"""


class RandomState:
    """The global generators of Python, NumPy, torch and CUDA on each rank.

    If the run now has more ranks than when the state was saved, each new rank is seeded from the generators of rank 0.

    Args:
        ranks: the processes of the run.
    """

    def __init__(self, ranks: Ranks = ALONE) -> None:
        self._ranks = ranks

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of each generator; with several ranks, the states of all ranks."""
        own_state = self._own_state()
        return {"ranks": self._ranks.gather(own_state)} if self._ranks.several else own_state

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Sets the state of each generator. Ignores states of GPUs that this machine does not have."""
        saved: list[dict[str, Any]] = state_dict.get("ranks", [state_dict])
        rank = self._ranks.rank
        self._load_own(saved[rank if rank < len(saved) else 0])
        if rank >= len(saved):
            seed = int(torch.randint(2**62, ())) + rank
            random.seed(seed)
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)

    @staticmethod
    def _own_state() -> dict[str, Any]:
        name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
        return {
            "python": random.getstate(),
            "numpy": {
                "name": name,
                "keys": torch.from_numpy(np.asarray(keys).astype(np.int64)),
                "position": int(position),
                "has_gauss": int(has_gauss),
                "gauss": float(gauss),
            },
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    @staticmethod
    def _load_own(state_dict: dict[str, Any]) -> None:
        version, internal, gauss_next = state_dict["python"]
        random.setstate((version, tuple(internal), gauss_next))
        numpy = state_dict["numpy"]
        # A checkpoint is loaded onto the run's device, and so are the generator states in it.
        keys = numpy["keys"].cpu().numpy().astype(np.uint32)
        np.random.set_state((numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["gauss"]))
        torch.set_rng_state(state_dict["torch"].cpu())
        for device, state in enumerate(state_dict["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state.cpu(), device)


@contextmanager
def kept_generators() -> Iterator[None]:
    """Restores the global generators after the block, so that the block does not affect later random numbers."""
    generators = RandomState()
    before = generators.state_dict()
    try:
        yield
    finally:
        generators.load_state_dict(before)


class StateRegistry:
    """The objects in a run that have state, by their names in checkpoints."""

    def __init__(self) -> None:
        self._entries: dict[str, Stateful] = {}
        self._training_only: set[str] = set()
        self._models: set[str] = set()
        # The states of hooks and losses, which a checkpoint for an evaluation can lack. All other states are required.
        self._optional: set[str] = set()
        self._hooks: dict[str, Plugin] = {}
        self._closed = False
        # With sharded networks, checkpoints are read onto the CPU. The state of hooks is then moved to this device.
        self._device: torch.device | None = None

    def register_components(self, components: Components, trainer: Trainer) -> None:
        """Registers each component under the name of its section, and each hook with state as `hook_<name>`.

        Models, optimisers and schedulers are always registered. A loss function is registered only if it has a state,
        and a component of any other kind only if it is a module with weights or buffers.
        """
        for suffix, model in components.models.items():
            self.register(section_name("model", suffix), ModuleState(model))
            self._models.add(section_name("model", suffix))
        for suffix, loss in components.loss_functions.items():
            state = ModuleState(loss) if isinstance(loss, nn.Module) else loss
            if isinstance(state, Stateful) and state.state_dict():
                self.register(section_name("loss_function", suffix), state)
                self._optional.add(section_name("loss_function", suffix))
        for kind, parts in components.others.items():
            for suffix, part in parts.items():
                if isinstance(part, nn.Module) and part.state_dict():
                    self.register(section_name(kind, suffix), ModuleState(part))
        for suffix, optimizer in components.optimizers.items():
            entry: Stateful = optimizer
            if any(is_sharded(weight) for group in optimizer.param_groups for weight in group["params"]):
                entry, self._device = ShardedOptimizer(optimizer), components.device
            self.register(section_name("optimizer", suffix), entry, training_only=True)
        for suffix, scheduler in components.lr_schedulers.items():
            self.register(section_name("lr_scheduler", suffix), scheduler.scheduler, training_only=True)
        for plugin in components.lifecycle.stateful():
            name, hook = state_name(plugin), plugin.instance
            self._hooks[name] = plugin
            self._optional.add(name)
            training_only = getattr(hook, "state_is_for_training", False)
            self.register(name, HookState(hook, trainer), training_only=training_only)

    def register(self, name: str, entry: Stateful, *, training_only: bool = False) -> None:
        """Registers an object. Every checkpoint must contain its state.

        Args:
            name: the name of the state in checkpoints.
            entry: the object. A module is saved without the name prefixes of wrappers such as `torch.compile`.
            training_only: whether only training needs the state. If False, validation, test and prediction restore it
                too.

        Raises:
            ValueError: the name is already used or reserved, or the registry is closed.
            TypeError: the object has no `state_dict` and `load_state_dict`.
        """
        if self._closed:
            raise ValueError(
                f"the state `{name}` is registered too late to be restored: register it in the hook `on_setup`, or in "
                "the `__init__` of the trainer"
            )
        if name == EXTRA:
            raise ValueError(f"the state name `{EXTRA}` is reserved for the data that hooks add to a checkpoint")
        if name in self._entries:
            raise ValueError(
                f"the state `{name}` is registered twice: for {_class(self._part(name))} and for {_class(entry)}; use "
                "the name of your plugin as a prefix, or, for a hook that is used twice in a run, return the state "
                "from the `state_dict` of the hook"
            )
        if not isinstance(entry, Stateful):
            raise TypeError(f"the state `{name}`, a {type(entry).__name__}, has no state_dict and load_state_dict")
        self._entries[name] = ModuleState(entry) if isinstance(entry, nn.Module) else entry
        if training_only:
            self._training_only.add(name)

    def close(self) -> None:
        """Rejects further registrations, because a checkpoint can be restored from now on."""
        self._closed = True

    def parts(self) -> list[Any]:
        """Returns all registered objects."""
        return [self._part(name) for name in self._entries]

    def _part(self, name: str) -> Any:
        entry = self._entries[name]
        return entry.module if isinstance(entry, ModuleState) else entry

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Returns the state of every registered object, by name.

        Raises:
            CheckpointError: an object raised an error.
        """
        states = {}
        for name, entry in self._entries.items():
            try:
                states[name] = entry.state_dict()
            except AudioZenError:
                raise
            except Exception as error:
                # The error names the hook or model that failed.
                owner = self._hooks.get(name, f"`{name}`")
                raise CheckpointError.caused_by(error, f"{owner} failed to return its state:") from error
        return states

    def load_state_dict(self, state_dict: Mapping[str, dict[str, Any]], /) -> None:
        """Restores every registered object. The names in `state_dict` must be exactly the registered names.

        Raises:
            CheckpointError: a name is missing or unknown, or an object can't load its state.
        """
        missing = sorted(self._entries.keys() - state_dict.keys())
        unknown = sorted(state_dict.keys() - self._entries.keys())
        if missing or unknown:
            parts = [f"it has no state for {_names(missing)}"] * bool(missing)
            parts += [f"the experiment has nothing named {_names(unknown)}"] * bool(unknown)
            raise CheckpointError(
                f"the checkpoint does not fit the experiment: {'; '.join(parts)}",
                remedy=f"resume with the TOML file that the run was started with, or start a new run with {FINETUNE}",
            )
        self.load(state_dict, self._entries)

    def names(self) -> set[str]:
        """Returns the names of all registered states."""
        return set(self._entries)

    def evaluation_names(self) -> set[str]:
        """Returns the names of the states that `load_for_evaluation` restores.

        These are all states except those registered with `training_only=True` and those of the networks. The weights
        of the networks are loaded separately.
        """
        return self._entries.keys() - self._training_only - self._models

    def load_for_evaluation(
        self, state_dict: Mapping[str, dict[str, Any]], source: str, *, saved: Collection[str]
    ) -> None:
        """Restores the states that a validation, test or prediction needs, except the networks.

        These are all states except those registered with `training_only=True`. The checkpoint can contain further
        states, such as the states of hooks that were removed from the TOML file.

        Args:
            state_dict: the states to restore, by name.
            source: the checkpoint, for messages.
            saved: the names of all states in the checkpoint, for messages; empty for a file of weights.

        Raises:
            CheckpointError: the checkpoint lacks a required state, so that its object would silently keep its initial
                state; or an object can't load its state.
        """
        wanted = sorted(self.evaluation_names())
        missing = sorted(set(wanted) - state_dict.keys())
        optional = [name for name in missing if name in self._optional]
        if needed := [name for name in missing if name not in optional]:
            raise CheckpointError(
                f"{source} has no state for {_names(needed)}, which the experiment has registered",
                notes=[f"it has states for: {', '.join(sorted(saved))}" if saved else "it has only weights"],
                remedy="use a checkpoint from a run of this TOML file, or leave out the component that registers the "
                "state",
            )
        if optional:
            get_logger().warning(
                f"the checkpoint has no state for {_names(optional)}, so the initial state is used", checkpoint=source
            )
        self.load(state_dict, [name for name in wanted if name in state_dict])

    def load(self, state_dict: Mapping[str, dict[str, Any]], names: Iterable[str]) -> None:
        """Restores the states with the given names, which `state_dict` must contain.

        Raises:
            CheckpointError: an object can't load its state.
        """
        for name in names:
            entry = self._entries[name]
            try:
                state = state_dict[name]
                if self._device is not None and not isinstance(entry, ModuleState | ShardedOptimizer):
                    state = sharded_as(to_device(state, self._device), entry.state_dict())
                entry.load_state_dict(state)
            except AudioZenError:
                raise
            except Exception as error:
                if name in self._hooks:
                    what = f"{self._hooks[name]} can't load its state from the checkpoint:"
                    remedy = (
                        "if the hook has changed since the checkpoint was saved, use the earlier version of the hook"
                    )
                    raise CheckpointError.caused_by(error, what, remedy=remedy) from error
                remedy = f"if the section `[{name}]` has changed since the checkpoint was saved, change it back"
                if split_section(name) is None:  # the state of a trainer or a plugin, which has no section
                    remedy = (
                        "use the versions of AudioZEN and of the plugins that the checkpoint was saved with, or start "
                        f"from its weights with {FINETUNE}"
                    )
                if isinstance(entry, ModuleState) and (mismatch := entry.compare(state_dict[name])):
                    message = f"the checkpoint's `{name}` does not fit"
                    raise mismatch_error(message, error, mismatch, remedy=remedy) from error
                raise CheckpointError(
                    f"the checkpoint's `{name}` does not fit: {_message(error)}", remedy=remedy
                ) from error


def _message(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, RuntimeError | ValueError) else f"{type(error).__name__}: {text}"


def _class(part: object) -> str:
    return f"`{type(part).__module__}.{type(part).__qualname__}`"


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
