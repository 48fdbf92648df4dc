"""Warns of a name that several distributions have, when AudioZEN's own component is used because it comes first."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from audiozen_core.config.composition import Composition, values_below
from audiozen_core.diagnostics import codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.registry.entry import Entry
from audiozen_core.registry.index import PluginIndex


def namesake_warnings(
    composition: Composition, used: Collection[tuple[str, Entry]], index: PluginIndex
) -> Iterator[Diagnostic]:
    """Yields a warning for each name that also means a component of another distribution.

    Args:
        composition: the values, in which the names are found. A metric, for example, may be only a string in `args`.
        used: the components that the experiment uses, each with its path.
        index: the installed components.
    """
    for path, entry in sorted(used):
        others = () if ":" in path else index.namesakes(entry)
        if not others:
            continue
        owners = " and ".join(other.origin for other in others)
        ways = " or ".join(f"`{other.spelling}`" for other in others)
        message = f"`{path}` is the name of {entry.title}, which is used, and of one of {owners}"
        notes = (f"help: write `{entry.spelling}` to say that you mean it, or {ways}",)
        finding = Diagnostic(codes.CLASH, message, "warning", notes=notes)
        places = (place for place, value in values_below(composition.values, ()) if value == path and len(place) > 1)
        place = next((found for found in places if found[-1] == "path" or "args" in found), None)
        yield composition.placed(finding, place) if place else finding
