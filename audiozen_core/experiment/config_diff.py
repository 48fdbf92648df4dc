"""What has changed in an experiment's TOML since a checkpoint was made, and whether it matters. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from audiozen_core.errors import CheckpointError

# What may change without another training coming out: where things are put, how fast they go, how long it lasts, what
# is looked at, and what comes after the training. Everything else matters.
_FREE = re.compile(
    r"""
      meta\.(save_dir|id|device|num_threads|use_deterministic_algorithms)
    | trainer\.args\.(
          max_epochs | max_steps | patience | validation_interval | log_interval | plot_norm
        | save_ckpt_\w+ | max_num_checkpoints | on_nonfinite | max_nonfinite | on_bad_data | max_bad_data
        | metrics | save_enhanced )
    | \w*dataset(\.\d+)?\.dataloader\.(num_workers|pin_memory|prefetch_factor|persistent_workers|timeout)
    | (test_dataset|predict_dataset)
    """,
    re.VERBOSE,
)
# The hooks of ours that only watch or save, by their exact names: somebody's own `progress.Ema` may do anything.
_FREE_HOOKS = {"checkpoint", "metrics_jsonl", "patience", "progress", "signals", "tensorboard"}
_HOOK = re.compile(r"hooks\.(?:audiozen:)?(?P<name>\w+)(?:#\d+)?(?:\..*)?", re.DOTALL)
_ABSENT = "(not set)"


@dataclass(frozen=True, slots=True)
class Change:
    """One value that differs.

    Attributes:
        key: its place, `optimizer.args.lr`.
        before: what the checkpoint was made with, as text.
        now: what the TOML says now, as text.
        matters: whether another training comes out of it.
    """

    key: str
    before: str
    now: str
    matters: bool

    def __str__(self) -> str:
        return f"{self.key}: {self.before} -> {self.now}"


def drift(before: str, now: str) -> list[Change]:
    """The values in which two effective configurations differ.

    Example:
        >>> [str(change) for change in drift("[optimizer.args]\\nlr = 0.1", "[optimizer.args]\\nlr = 0.2")]
        ['optimizer.args.lr: 0.1 -> 0.2']
    """
    old, new = dict(_leaves(_by_hook(tomli.loads(before)))), dict(_leaves(_by_hook(tomli.loads(now))))
    return [
        Change(key, old.get(key, _ABSENT), new.get(key, _ABSENT), not _is_free(key))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]


def refuse_drift(changes: Sequence[Change], folder: Path | None = None) -> None:
    """Raises an error if one of the changes matters.

    Args:
        changes: what has changed.
        folder: that of the run, for the remedy.

    Raises:
        CheckpointError: it shows those that do.
    """
    if grave := [change for change in changes if change.matters]:
        raise CheckpointError(
            "the TOML has changed since the checkpoint was made, so another training would come out",
            notes=[f"changed: {change}" for change in grave],
            remedy="change it back; or go on all the same with --allow-drift; or start from the weights under another "
            f"name: a copy of the TOML with `-M finetune --ckpt-path {folder or '<folder>'}/checkpoints/best`",
        )


def _is_free(key: str) -> bool:
    if hook := _HOOK.fullmatch(key):
        return hook["name"] in _FREE_HOOKS
    match = _FREE.match(key)
    return match is not None and (match.end() == len(key) or key[match.end()] == ".")


def _by_hook(values: dict[str, Any]) -> dict[str, Any]:
    """Hooks are told apart by what they are, not by their order; two of one kind by theirs."""
    hooks = values.get("hooks")
    if not isinstance(hooks, list):
        return values
    named: dict[str, Any] = {}
    for place, hook in enumerate(hooks):
        path = str(hook.get("path", place))
        path = f'"{path}"' if "." in path else path  # a key of its own, as TOML writes it
        twins = sum(name.partition("#")[0] == path for name in named)
        named[f"{path}#{twins + 1}" if twins else path] = hook
    return {**values, "hooks": named}


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for place, item in enumerate(value):
            yield from _leaves(item, f"{key}.{place}")
    elif value != {}:
        yield key, repr(value)
