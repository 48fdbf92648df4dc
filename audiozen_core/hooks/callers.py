"""The hooks of a run as attributes, so that a type checker knows their names."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from audiozen_core.hooks.nonfinite import NonFiniteAnswer

CallAll: TypeAlias = Callable[..., list[Any]]
"""Calls every implementation, with keyword arguments; gives the list of their answers."""


class HookCallers:
    """One attribute for each hook of `specs`; `lifecycle.Lifecycle` fills them.

    A hook whose first answer counts gives that answer, or None. All others call every implementation.
    """

    on_component_built: CallAll
    on_setup: CallAll
    on_run_start: CallAll
    on_run_end: CallAll
    on_exception: CallAll
    on_teardown: CallAll
    on_epoch_start: CallAll
    skip_batch: Callable[..., bool | None]
    on_training_step_start: CallAll
    autocast: Callable[..., AbstractContextManager[Any] | None]
    backward: Callable[..., bool | None]
    on_gradients_ready: CallAll
    optimizer_step: Callable[..., bool | None]
    on_optimizer_step_end: CallAll
    on_training_step_end: CallAll
    on_epoch_end: CallAll
    on_nonfinite: Callable[..., NonFiniteAnswer | None]
    rollback: Callable[..., bool | None]
    on_rollback: CallAll
    stop_reason: Callable[..., str | None]
    on_evaluation_start: CallAll
    on_evaluation_step_end: CallAll
    on_evaluation_end: CallAll
    on_evaluation_abandoned: CallAll
    on_best_found: CallAll
    on_log: CallAll
    on_checkpoint_save: CallAll
    skip_checkpoint_reason: Callable[..., str | None]
    on_checkpoint_request: CallAll
    on_checkpoint_saved: CallAll
    on_checkpoint_load: CallAll
