"""The state that a run must save in order to resume exactly."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from audiozen_core.checkpoint.mismatch import compare_weights, mismatch_error
from audiozen_core.errors import AudioZenError, CheckpointError
from audiozen_core.hooks.trainer_protocol import Stateful
from audiozen_core.kinds import section_name
from audiozen_core.trainer.components import Components
from audiozen_core.trainer.module_state import ModuleState


class RandomState:
    """The global generators of Python, NumPy, Torch and CUDA."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the state of each generator."""
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

    def load_state_dict(self, state_dict: dict[str, Any], /) -> None:
        """Sets each generator; the states of GPUs that this machine does not have are ignored."""
        version, internal, gauss_next = state_dict["python"]
        random.setstate((version, tuple(internal), gauss_next))
        numpy = state_dict["numpy"]
        # Checkpoints are loaded onto the run's device, including the generator states.
        keys = numpy["keys"].cpu().numpy().astype(np.uint32)
        np.random.set_state((numpy["name"], keys, numpy["position"], numpy["has_gauss"], numpy["gauss"]))
        torch.set_rng_state(state_dict["torch"].cpu())
        for device, state in enumerate(state_dict["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state.cpu(), device)


class StateRegistry:
    """Everything in a run that has state, each entry under its name in the checkpoints."""

    def __init__(self) -> None:
        self._entries: dict[str, Stateful] = {}

    def register_components(self, components: Components) -> None:
        """Adds each component under its section's name, and each hook that has state as `hook_<name>`.

        A loss function is included if it has weights or buffers, such as a running mean.
        """
        for suffix, model in components.models.items():
            self.register(section_name("model", suffix), ModuleState(model))
        for suffix, loss in components.loss_functions.items():
            state = ModuleState(loss) if isinstance(loss, nn.Module) else loss
            if isinstance(state, Stateful) and state.state_dict():
                self.register(section_name("loss_function", suffix), state)
        for suffix, optimizer in components.optimizers.items():
            self.register(section_name("optimizer", suffix), optimizer)
        for suffix, entry in components.lr_schedulers.items():
            self.register(section_name("lr_scheduler", suffix), entry.scheduler)
        for name, hook in components.lifecycle.stateful():
            self.register(f"hook_{name}", hook)

    def register(self, name: str, entry: Stateful) -> None:
        """Adds an entry.

        Raises:
            ValueError: the name is taken.
            TypeError: the object has no `state_dict` and `load_state_dict`.
        """
        if name in self._entries:
            raise ValueError(f"the state `{name}` is registered twice")
        if not isinstance(entry, Stateful):
            raise TypeError(f"the state `{name}`, a {type(entry).__name__}, has no state_dict and load_state_dict")
        self._entries[name] = entry

    def state_dict(self) -> dict[str, dict[str, Any]]:
        """Returns the state of every entry, by name."""
        states = {}
        for name, entry in self._entries.items():
            try:
                states[name] = entry.state_dict()
            except AudioZenError:
                raise
            except Exception as error:
                # The error must name the hook or model whose state is wrong, not the code that saves.
                message = f"`{name}` has failed to return its state: {type(error).__name__}: {error}"
                raise CheckpointError(message, remedy="`--traceback` shows the whole traceback") from error
        return states

    def load_state_dict(self, state_dict: Mapping[str, dict[str, Any]], /) -> None:
        """Restores every entry. The names must be exactly the saved names.

        Raises:
            CheckpointError: a name is missing or unknown, or an entry can't load its state.
        """
        missing = sorted(self._entries.keys() - state_dict.keys())
        unknown = sorted(state_dict.keys() - self._entries.keys())
        if missing or unknown:
            parts = [f"it has no state for {_names(missing)}"] * bool(missing)
            parts += [f"the experiment has nothing named {_names(unknown)}"] * bool(unknown)
            raise CheckpointError(
                f"the checkpoint does not fit the experiment: {'; '.join(parts)}",
                remedy="resume with the TOML that the run was started with, or start a new run with `-M finetune`",
            )
        for name, entry in self._entries.items():
            try:
                entry.load_state_dict(state_dict[name])
            except (RuntimeError, ValueError, KeyError, TypeError) as error:
                remedy = f"if the section `[{name}]` has changed since the checkpoint was saved, change it back"
                if isinstance(entry, nn.Module) and compare_weights(entry, state_dict[name]):
                    message = f"the checkpoint's `{name}` does not fit"
                    raise mismatch_error(message, error, entry, state_dict[name], remedy=remedy) from error
                raise CheckpointError(
                    f"the checkpoint's `{name}` does not fit: {' '.join(str(error).split())}", remedy=remedy
                ) from error


def _names(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
