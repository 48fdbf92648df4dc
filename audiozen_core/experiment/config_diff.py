"""Compares an effective configuration with the configuration in a checkpoint, and finds changes that affect training.

This module does not import torch. A component's class declares which settings may change before a resume:

    class Trainer(BaseTrainer):
        resume_safe = ("plot_every",)    # these arguments do not affect training

    class Announce:
        affects_training = False         # this hook can be added, changed or removed
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from audiozen_core.diagnostics.run_options import ALLOW_DRIFT
from audiozen_core.diagnostics.toml_text import toml_text
from audiozen_core.errors import CheckpointError
from audiozen_core.kinds import KINDS, SECTIONS, affects, kind_of, split_section

FindComponent = Callable[[str, str], object]
"""Takes a section and a path, and returns the object that the path names, or None if it does not exist.

A section that a plugin defines has no `path`, so "" is passed as the path.
"""

# The keys of AudioZEN that may change before a resume. They affect output folders and speed.
_SAFE_META = ("save_dir", "id", "device", "num_threads", "requires", "use_deterministic_algorithms")
_SAFE_DATALOADER = ("num_workers", "pin_memory", "prefetch_factor", "persistent_workers", "timeout")
_SAFE_DISTRIBUTED = (
    "timeout",
    "strategy",
    "shard_classes",
    "forward_methods",
    "bucket_cap_mb",
    "static_graph",
    "find_unused_parameters",
)
PLACES = ("meta.id", "meta.save_dir", "meta.import_from")
"""Keys that usually differ between two runs, and do not affect how a network is trained."""

_ABSENT = "(not set)"
_HOOK_KEY = re.compile(r'hooks\.(?:"(?P<quoted>[^"]*)"|(?P<bare>[^.#]*))(?:#(?P<number>\d+))?(?:\.|$)')


@dataclass(frozen=True, slots=True)
class Change:
    """One changed value.

    Attributes:
        key: the key, such as `optimizer.args.lr`.
        before: the old value as text.
        now: the new value as text.
        affects_training: whether the result of training may depend on the value.
        only_in_training: whether the value belongs to a hook that acts in training only.
    """

    key: str
    before: str
    now: str
    affects_training: bool
    only_in_training: bool = False

    def __str__(self) -> str:
        return f"{self.key}: {self.before} -> {self.now}"


def compare_configs(before: str, now: str, find: FindComponent) -> list[Change]:
    """Lists the values that differ between two effective configurations. `find` returns the classes of components.

    Example:
        >>> changes = compare_configs(
        ...     "[optimizer.args]\\nlr = 0.1", "[optimizer.args]\\nlr = 0.2", lambda section, path: None
        ... )
        >>> [str(change) for change in changes]
        ['optimizer.args.lr: 0.1 -> 0.2']
    """
    old_values, new_values = _by_hook(tomli.loads(before)), _by_hook(tomli.loads(now))
    old, new = dict(_leaves(old_values)), dict(_leaves(new_values))
    changed = [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]
    safe = {*_safe_keys(old_values, find), *_safe_keys(new_values, find)} if changed else set()
    of_training = {*_hooks_of_training(old_values, find), *_hooks_of_training(new_values, find)} if changed else set()
    return [
        Change(
            key,
            old.get(key, _ABSENT),
            new.get(key, _ABSENT),
            affects_training=not any(_is_within(key, each) for each in safe),
            only_in_training=any(_is_within(key, each) for each in of_training),
        )
        for key in changed
    ]


def settings_of(config: str) -> dict[str, str]:
    """Returns the values of an effective configuration as TOML text, by key.

    Raises:
        ValueError: the text is not TOML.

    Example:
        >>> settings_of("[optimizer.args]\\nlr = 0.1")
        {'optimizer.args.lr': '0.1'}
    """
    return dict(_leaves(_by_hook(tomli.loads(config))))


def refuse_changes(changes: Sequence[Change], folder: Path | None = None) -> None:
    """Raises an error that lists the changes that affect training, if there are any. `folder` is the run folder."""
    best = f"{folder or '<folder>'}/checkpoints/best"
    if affecting := [change for change in changes if change.affects_training]:
        raise CheckpointError(
            "settings that affect training have changed since the checkpoint was saved, so the result would differ",
            notes=[f"changed: {change}" for change in affecting],
            remedy=f"change them back; or resume despite them with {ALLOW_DRIFT}; or start a new run from the weights: "
            f"copy the TOML file under another name and run the copy with `-M finetune --ckpt-path {best}` "
            f'(in Python `modes=["finetune"]` and `ckpt_path="{best}"`)',
        )


def changed_hook(change: Change) -> str:
    """Returns the name of the changed hook in the run; "" if the change is not about a hook.

    >>> [changed_hook(Change(key, "1", "2", True)) for key in ("hooks.ema.args.x", 'hooks."a.Ema"#2.path', "meta.seed")]
    ['ema', 'a.Ema_2', '']
    """
    match = _HOOK_KEY.match(change.key)
    if match is None:
        return ""
    path = (match["quoted"] or match["bare"]).removeprefix("audiozen:")
    return f"{path}_{match['number']}" if match["number"] else path


def _safe_keys(values: Mapping[str, Any], find: FindComponent) -> Iterator[str]:
    """Yields the keys that may change. Each key stands for all keys below it, too."""
    yield from (section for section in SECTIONS if not affects(section, "training"))
    yield from (f"meta.{name}" for name in _SAFE_META)
    yield from (f"distributed.{name}" for name in _SAFE_DISTRIBUTED)
    for section, key, table in _components(values):
        kind = kind_of(section)
        if kind == KINDS["model"]:
            yield f"{key}.gradient_checkpointing"  # does not change the result, not even the last bit
        if kind == KINDS["dataset"]:
            yield f"{key}.name"
            yield from (f"{key}.dataloader.{name}" for name in _SAFE_DATALOADER)
        of_plugin = split_section(section) is None
        # A plugin's section may have a key `path` that does not name a component.
        path = "" if of_plugin else table.get("path")
        component = None if path is None else find(section, str(path))
        if getattr(component, "affects_training", True) is False:
            yield key
        # The `resume_safe` names of base classes apply even if the class defines `resume_safe` itself.
        for base in component.__mro__ if isinstance(component, type) else ():
            args = key if of_plugin else f"{key}.args"
            yield from (f"{args}.{name}" for name in vars(base).get("resume_safe", ()))


def _hooks_of_training(values: Mapping[str, Any], find: FindComponent) -> Iterator[str]:
    """Yields the keys of hooks that act in training only."""
    for section, key, table in _components(values):
        if section == "hooks" and not getattr(find(section, str(table.get("path"))), "affects_outputs", True):
            yield key


def _components(values: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Yields the section, key and table of each component. `hooks` and arrays of tables have several components."""
    for section, value in values.items():
        if section == "hooks" and isinstance(value, Mapping):
            yield from ((section, f"{section}.{name}", hook) for name, hook in value.items())
        elif isinstance(value, Mapping):
            yield section, section, value
        elif isinstance(value, list):
            yield from (
                (section, f"{section}.{index}", item) for index, item in enumerate(value) if isinstance(item, Mapping)
            )


def _is_within(key: str, safe: str) -> bool:
    return key == safe or key.startswith(f"{safe}.")


def _by_hook(values: dict[str, Any]) -> dict[str, Any]:
    """Turns the array `[[hooks]]` into a table by path, because its order is irrelevant. A second `ema` becomes
    `ema#2`.
    """
    hooks = values.get("hooks")
    if not isinstance(hooks, list):
        return values
    named: dict[str, Any] = {}
    for index, hook in enumerate(hooks):
        path = str(hook.get("path", index))
        path = f'"{path}"' if "." in path else path  # quoted, so that TOML reads the path as one key
        count = sum(name.partition("#")[0] == path for name in named)
        named[f"{path}#{count + 1}" if count else path] = hook
    return {**values, "hooks": named}


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{key}.{index}")
    elif value != {}:
        yield key, toml_text(value)
