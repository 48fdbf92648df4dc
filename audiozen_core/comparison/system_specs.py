"""Finds the systems that a user wants to compare: runs, folders, CSV files, or several runs with different seeds."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import RunError
from audiozen_core.results.delimited import DELIMITERS

_SEEDS = "_seeds.json"
"""The end of the name of the file that `audiozen run --seeds` writes next to the folders of the seeds."""


@dataclass(frozen=True, slots=True)
class SystemSpec:
    """A system that a user has named.

    Attributes:
        name: the name that the user has chosen, or "".
        paths: the run, folder or CSV file of each seed.
        state: the state to compare if the scores come from a test, such as `noisy`; "" for the network's output.
        text: the text with which the user has named the system.
        notes: notes about the system, such as a warning that seeds may be missing.
    """

    name: str
    paths: tuple[Path, ...]
    state: str
    text: str
    notes: tuple[str, ...] = ()


def parse_systems(
    systems: Sequence[str | os.PathLike[str]] | Mapping[str, str | os.PathLike[str] | Sequence[str | os.PathLike[str]]],
) -> list[SystemSpec]:
    """Finds the paths of the systems that a user has named.

    Args:
        systems: texts of the form `[NAME=]PATH[,PATH…][:STATE]`, or a dict from a name to one or more of such texts. A
            path may be a pattern such as `exp/a_seed_*`, or `exp/a` for all seeds of `audiozen run --seeds`.

    Raises:
        RunError: a path does not exist, or a pattern matches nothing.
    """
    if isinstance(systems, str):
        raise RunError(
            f"`{systems}` is one text, not a list of systems", remedy='give a list, such as ["exp/a", "exp/b"]'
        )
    if not isinstance(systems, Mapping):
        return [_parse(os.fspath(system)) for system in systems]
    named = []
    for name, value in systems.items():
        texts = [value] if isinstance(value, str | os.PathLike) else list(value)
        parts = [_parse(os.fspath(text), named=True) for text in texts]
        if len({part.state for part in parts}) > 1:
            raise RunError(f"the paths of `{name}` have different states", remedy="give the same state for all paths")
        paths = tuple(path for part in parts for path in part.paths)
        notes = tuple(note for part in parts for note in part.notes)
        named.append(SystemSpec(name, paths, parts[0].state, ", ".join(map(str, texts)), notes))
    return named


def _parse(text: str, named: bool = False) -> SystemSpec:
    name, rest = "", text
    before, equals, after = text.partition("=")
    if equals and not named and os.sep not in before and not Path(text).exists():
        name, rest = before.strip(), after
    if not rest.strip():
        raise RunError(
            f"the path of the system `{text}` is empty", remedy="check the shell variable that the path comes from"
        )
    found = _paths(rest)
    state = ""
    if found is None and ":" in rest:
        rest, _, state = rest.rpartition(":")
        found = _paths(rest)
    if found is None:
        raise _not_found(rest)
    paths, notes = found
    return SystemSpec(name, paths, state, text, notes)


def _paths(text: str) -> tuple[tuple[Path, ...], tuple[str, ...]] | None:
    """Returns the paths that a text stands for, with notes; None if a path does not exist or nothing matches."""
    path = Path(text).expanduser()
    if text.endswith(_SEEDS):
        return _seeds(path.with_name(path.name.removesuffix(_SEEDS)))
    if path.exists():
        return (path,), ()
    if glob.has_magic(text):
        matches = sorted(Path(match) for match in glob.glob(str(path)))  # noqa: PTH207 - `Path.glob` takes no absolute patterns
        runs = tuple(match for match in matches if match.is_dir() or match.suffix in DELIMITERS)
        return (runs, ()) if runs else None
    if "," in text:
        parts = [_paths(part.strip()) for part in text.split(",") if part.strip()]
        if any(part is None for part in parts):
            return None
        notes = tuple(note for part in parts if part for note in part[1])
        paths = tuple(each for part in parts if part for each in part[0])
        return paths, notes
    return _seeds(path)


def _seeds(path: Path) -> tuple[tuple[Path, ...], tuple[str, ...]] | None:
    """Returns the runs of an experiment that was run with several seeds, such as `exp/baseline_seed_0`."""
    file = path.with_name(path.name + _SEEDS)
    try:
        seeds = json.loads(file.read_text(encoding="utf-8"))["seeds"]
        return tuple(path.with_name(f"{path.name}_seed_{seed}") for seed in seeds), ()
    except (OSError, ValueError, TypeError, KeyError):
        pass
    prefix = f"{path.name}_seed_"
    if not path.parent.is_dir():
        return None
    runs = sorted(run for run in path.parent.iterdir() if run.name.startswith(prefix) and run.is_dir())
    if not runs:
        return None
    note = f"`{file}` does not exist, so there may be more seeds than the {len(runs)} that are compared"
    return tuple(runs), (note,)


def _not_found(text: str) -> RunError:
    path = Path(text).expanduser()
    if glob.has_magic(text):
        return RunError(f"no folder or CSV file matches the pattern `{text}`", remedy="check the pattern")
    for part in text.split(","):
        if _paths(part.strip()) is None:
            path = Path(part.strip()).expanduser()
            break
    siblings = [each.name for each in path.parent.iterdir()] if path.parent.is_dir() else []
    siblings += [name.rpartition("_seed_")[0] for name in siblings if "_seed_" in name]
    note = did_you_mean(nearest(path.name, siblings))
    return RunError(
        f"`{path}` does not exist{f': {note}' if note else ''}",
        remedy="give a run, the result folder of a test, a folder that `audiozen evaluate -o` has written, or a CSV "
        "file",
    )
