"""Writes and reads the header `plugins` of the config files in a run folder, which lists the used plugin components.

After a plugin has been uninstalled, the header still shows which distribution a name belonged to.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from audiozen_core.config.composition import Composition
from audiozen_core.registry.entry import FIRST_PARTY, Entry
from audiozen_core.registry.switched_off import switched_off

RECORDS = "config__*.toml"
"""Matches the recorded config files in a run folder. Their names contain the time, so they sort by age."""

_USE = re.compile(r"`([^`]+)` of (\S+) ?([^,\s]*)")


def used_text(used: Collection[tuple[str, Entry]]) -> str:
    """Returns the text of the header `plugins`: the used components that do not belong to AudioZEN itself."""
    plugins = sorted((path, entry) for path, entry in used if entry.distribution != FIRST_PARTY)
    return ", ".join(f"`{path}` of {entry.origin}" for path, entry in plugins)


def recorded_plugin(composition: Composition, path: str) -> tuple[str, str] | None:
    """Returns the requirement for the distribution that had a component when the experiment was last run.

    Returns:
        A requirement such as `acme==1.0`, and the file with the record; None if the component was never recorded.
    """
    for file in (composition.main.file, *_records(composition)):
        for used, distribution, version in _USE.findall(used_plugins_header(file, "plugins")):
            if used == path and distribution not in switched_off():
                return (f"{distribution}=={version}" if version else distribution), str(file)
    return None


def _records(composition: Composition) -> list[Path]:
    """Returns the recorded config files in the run folder of the experiment, newest first."""
    meta = composition.values.get("meta")
    save_dir = meta.get("save_dir") if isinstance(meta, dict) else None
    name = meta.get("id", composition.main.file.stem) if isinstance(meta, dict) else None
    if not isinstance(save_dir, str) or not isinstance(name, str):
        return []
    return sorted(Path(save_dir).expanduser().joinpath(name).glob(RECORDS), reverse=True)


def used_plugins_header(file: Path, name: str) -> str:
    """Returns one header of a recorded config file, such as `plugins`; "" if the file does not have it."""
    start = f"# {name}: "
    try:
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                if not line.startswith("#"):
                    break
                if line.startswith(start):
                    return line.removeprefix(start).strip()
    except (OSError, ValueError):
        pass
    return ""
