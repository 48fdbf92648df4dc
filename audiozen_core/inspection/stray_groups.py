"""Finds entry point groups that were probably meant for AudioZEN but do not begin with `audiozen.`.

The plugin index ignores such groups, and reads as little metadata as possible of distributions without components. Only
`audiozen plugins doctor` and the test kit search for stray groups.
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
_WITH_OUR_NAME = re.compile(r"audiozen(?![a-z0-9])[^a-z0-9]*(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class StrayGroup:
    """An entry point group that AudioZEN does not read, although it was probably meant for AudioZEN.

    Attributes:
        group: the name of the group.
        intended_group: the group that was probably meant; "" if no group has a similar name.
        distribution: the normalised name of the distribution.
        version: the version of the distribution.
    """

    group: str
    intended_group: str
    distribution: str
    version: str


def stray_groups(search_path: Iterable[str]) -> Iterator[StrayGroup]:
    """Yields the stray groups of all distributions on a search path."""
    for folder in metadata_folders(search_path):
        try:
            groups = _HEADER.findall(read_metadata(folder, "entry_points.txt"))
            near = {group: _meant(group) for group in groups if not group.startswith(PREFIX)}
            if not any(near.values()) and not any(map(_WITH_OUR_NAME.fullmatch, near)):
                continue
            name, version, requirements = read_headers(
                read_metadata(folder, "METADATA") or read_metadata(folder, "PKG-INFO")
            )
        except (OSError, ValueError):
            continue  # the plugin index reports this error if the distribution has components
        for group, meant in near.items():
            # A group such as `audio.models` is similar to `audiozen.model`, but may belong to another program. It
            # counts only if the distribution requires AudioZEN.
            with_our_name = _WITH_OUR_NAME.fullmatch(group)
            if (with_our_name and (meant or not with_our_name[1])) or (meant and requirements):
                yield StrayGroup(group, meant, name, version)


def _meant(group: str) -> str:
    """Returns the group that was probably meant; "" if no group has a similar name."""
    if with_our_name := _WITH_OUR_NAME.fullmatch(group):
        kind = with_our_name[1]
        near = nearest(kind, GROUPS) if kind not in GROUPS else kind
        return f"{PREFIX}{near}" if near else ""
    return next(iter(similar_names(group, [f"{PREFIX}{kind}" for kind in GROUPS], 1)), "")
