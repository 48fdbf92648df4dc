"""Finds entry point groups that were probably meant for AudioZEN but do not begin with `audiozen.`.

The index ignores such groups, and reads no more of the other distributions than it must. Only `plugins doctor` and the
test kit look for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from audiozen_core.diagnostics.suggestions import nearest, similar_names
from audiozen_core.kinds import GROUPS
from audiozen_core.registry.entry import PREFIX
from audiozen_core.registry.index import read_headers
from audiozen_core.registry.installed import metadata_folders, read_metadata

_HEADER = re.compile(r"^\s*\[(.+)\]\s*$", re.MULTILINE)
_OWN = re.compile(r"audiozen(?![a-z0-9])[^a-z0-9]*(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StrayGroup:
    """A group that AudioZEN does not read, and the group that was probably meant; "" if none is similar.

    The name of the distribution is normalised.
    """

    group: str
    meant: str
    distribution: str
    version: str


def stray_groups(search_path: Iterable[str]) -> Iterator[StrayGroup]:
    """Yields the stray groups of all distributions on a search path."""
    for folder in metadata_folders(search_path):
        try:
            groups = _HEADER.findall(read_metadata(folder, "entry_points.txt"))
            near = {group: _meant(group) for group in groups if not group.startswith(PREFIX)}
            if not any(near.values()) and not any(map(_OWN.fullmatch, near)):
                continue
            name, version, requirements = read_headers(
                read_metadata(folder, "METADATA") or read_metadata(folder, "PKG-INFO")
            )
        except (OSError, ValueError):
            continue  # the index reports it, if the distribution has components
        for group, meant in near.items():
            # `audio.models` is similar to `audiozen.model`. It may belong to another program, unless the distribution
            # needs AudioZEN.
            own = _OWN.fullmatch(group)
            if (own and (meant or not own[1])) or (meant and requirements):
                yield StrayGroup(group, meant, name, version)


def _meant(group: str) -> str:
    """Returns the group that was probably meant; "" if none is similar."""
    own = _OWN.fullmatch(group)
    if own:
        near = nearest(own[1], GROUPS) if own[1] not in GROUPS else own[1]
        return f"{PREFIX}{near}" if near else ""
    return next(iter(similar_names(group, [f"{PREFIX}{kind}" for kind in GROUPS], 1)), "")
