"""The order of the plugins: by phase, then by what they say about each other in `before` and `after`, then by name."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence

from audiozen_core.errors import HookError
from audiozen_core.hooks.phases import PHASES
from audiozen_core.hooks.plugin import Plugin


class OrderError(HookError):
    """The plugins can't be put into an order.

    Args:
        message: what is wrong, in one line.
        plugins: the plugins that contradict each other.
        remedy: what to do about it.
    """

    def __init__(self, message: str, plugins: Sequence[Plugin], *, remedy: str) -> None:
        super().__init__(message, notes=list(map(_declaration, plugins)), remedy=remedy)
        self.plugins = tuple(plugins)


def in_order(plugins: Iterable[Plugin]) -> list[Plugin]:
    """Returns the plugins, first to last. The order does not depend on the order in which they are given.

    A name in `before` or `after` that no plugin has is ignored, because that plugin is not part of the run.

    Raises:
        HookError: a phase is unknown.
        OrderError: `before` or `after` contradicts the phases, or plugins wait for each other in a circle.
    """
    plugins = sorted(plugins, key=_phase_and_name)
    followers = _followers(plugins)
    for first, others in followers.items():
        for other in others:
            if _phase(plugins[first]) > _phase(plugins[other]):
                raise _contradiction(plugins[first], plugins[other])
    # The next plugin is the first one in `plugins` that waits for no other.
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
    """Returns, for the place of each plugin, the places of the plugins that must come after it."""
    pairs = set()
    for place, plugin in enumerate(plugins):
        for other, candidate in enumerate(plugins):
            # `acme:clip` may come after `clip`, which is another plugin.
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
        remedy="change the phase, or `before` and `after`: they order the plugins of one phase",
    )


def _circle(plugins: Sequence[Plugin], followers: dict[int, list[int]], waiting: set[int]) -> OrderError:
    """Finds a circle among the plugins that are left. Each of them waits for another one of them."""
    seen: list[int] = []
    place = min(waiting)
    while place not in seen:
        seen.append(place)
        place = min(first for first in waiting if place in followers[first])
    # The walk went from each plugin to one that must come before it.
    circle = [plugins[place] for place in reversed(seen[seen.index(place) :])]
    text = " before ".join(f"`{plugin.name}`" for plugin in [*circle, circle[0]])
    return OrderError(
        f"hook plugins wait for each other in a circle: {text}",
        circle,
        remedy="remove one name from `before` or `after` of one of them, or switch one of them off",
    )


def _declaration(plugin: Plugin) -> str:
    said = [f"{name} = {value!r}" for name, value in (("before", plugin.before), ("after", plugin.after)) if value]
    return f"order: {plugin}: phase {plugin.phase}{''.join(f', {text}' for text in said)}"
