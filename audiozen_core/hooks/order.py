"""Sorts the hook plugins of a run: by phase, then by their attributes `before` and `after`, then by name."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from audiozen_core.errors import HookError
from audiozen_core.hooks.phases import PHASES
from audiozen_core.hooks.plugin import Plugin


class OrderError(HookError):
    """The plugins can't be sorted, because their attributes `phase`, `before` and `after` contradict each other.

    Args:
        message: the problem, in one line.
        plugins: the plugins that contradict each other.
        remedy: what the user can do.
    """

    def __init__(self, message: str, plugins: Sequence[Plugin], *, remedy: str) -> None:
        super().__init__(message, notes=list(map(_declaration, plugins)), remedy=remedy)
        self.plugins = tuple(plugins)


def calling_order(plugins: Iterable[Plugin]) -> list[Plugin]:
    """Returns the plugins in calling order. The result does not depend on the order of `plugins`.

    A name in `before` or `after` that does not belong to a plugin of the run is ignored.

    Raises:
        HookError: a phase is unknown.
        OrderError: `before` or `after` contradicts the phases, or plugins form a cycle.
    """
    plugins = sorted(plugins, key=_phase_and_name)
    followers = _followers(plugins)
    for first, others in followers.items():
        for other in others:
            if _phase(plugins[first]) > _phase(plugins[other]):
                raise _contradiction(plugins[first], plugins[other])
    # A topological sort. Of all plugins that need not wait for another plugin, the first in `plugins` comes next.
    waits_for = [0] * len(plugins)
    for others in followers.values():
        for other in others:
            waits_for[other] += 1
    free = [place for place, count in enumerate(waits_for) if not count]
    ordered = []
    while free:
        place = heapq.heappop(free)
        ordered.append(plugins[place])
        for other in followers[place]:
            waits_for[other] -= 1
            if not waits_for[other]:
                heapq.heappush(free, other)
    if len(ordered) < len(plugins):
        raise _circle(plugins, followers, {place for place, count in enumerate(waits_for) if count})
    return ordered


def _followers(plugins: Sequence[Plugin]) -> dict[int, list[int]]:
    """Returns a dict from the index of each plugin to the indices of the plugins that must come after it."""
    pairs = set()
    for place, plugin in enumerate(plugins):
        for other, candidate in enumerate(plugins):
            # A plugin such as `acme:clip` may name `clip`, and means another plugin. So a name does not refer to the
            # plugin itself, unless it is the plugin's full name, which is an error.
            if other == place and plugin.name not in (*plugin.before, *plugin.after):
                continue
            if any(map(candidate.is_called, plugin.before)):
                pairs.add((place, other))
            if any(map(candidate.is_called, plugin.after)):
                pairs.add((other, place))
    return {place: sorted(other for first, other in pairs if first == place) for place in range(len(plugins))}


def _phase(plugin: Plugin) -> int:
    return PHASES.index(plugin.phase)


def _phase_and_name(plugin: Plugin) -> tuple[int, str]:
    if plugin.phase not in PHASES:
        raise HookError(f"{plugin} has the unknown phase `{plugin.phase}`", remedy=f"use one of {', '.join(PHASES)}")
    return _phase(plugin), plugin.name


def _contradiction(first: Plugin, second: Plugin) -> OrderError:
    return OrderError(
        f"hook plugin `{first.name}` must run before `{second.name}`, but its phase `{first.phase}` comes after the "
        f"phase `{second.phase}`",
        [first, second],
        remedy="change the phase, or `before` and `after`, which only order plugins of the same phase",
    )


def _circle(plugins: Sequence[Plugin], followers: dict[int, list[int]], waiting: set[int]) -> OrderError:
    """Finds a cycle among the plugins in `waiting`, each of which waits for another plugin in `waiting`."""
    seen: list[int] = []
    place = min(waiting)
    while place not in seen:
        seen.append(place)
        place = min(first for first in waiting if place in followers[first])
    # The loop above went backwards, from a plugin to a plugin that must come before it.
    circle = [plugins[place] for place in reversed(seen[seen.index(place) :])]
    text = " before ".join(f"`{plugin.name}`" for plugin in [*circle, circle[0]])
    return OrderError(
        f"hook plugins wait for each other in a circle: {text}",
        circle,
        remedy="remove a name from `before` or `after` of one of these plugins, or switch one of them off",
    )


def _declaration(plugin: Plugin) -> str:
    texts = [f"{name} = {value!r}" for name, value in (("before", plugin.before), ("after", plugin.after)) if value]
    return f"order: {plugin}: phase {plugin.phase}{''.join(f', {text}' for text in texts)}"
