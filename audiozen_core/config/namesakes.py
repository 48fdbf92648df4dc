"""Warns about names of AudioZEN's own components that components of other distributions have, too."""

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
    """Yields a warning for each name in the file that also belongs to a component of another distribution.

    Args:
        composition: the values of the file, which are searched for the names.
        used: the components that the experiment uses, each with its path.
        index: the installed components.
    """
    for path, entry in sorted(used):
        others = () if ":" in path else index.namesakes(entry)
        if not others:
            continue
        owners = " and ".join(other.origin for other in others)
        ways = " or ".join(f"`{other.spelling}`" for other in others)
        message = f"`{path}` is ambiguous: {entry.title} is used, but this name also exists in {owners}"
        notes = (f"help: write `{entry.spelling}` to keep this component, or {ways}",)
        finding = Diagnostic(codes.CLASH, message, "warning", notes=notes)
        places = (place for place, value in values_below(composition.values, ()) if value == path and len(place) > 1)
        place = next((found for found in places if found[-1] == "path" or "args" in found), None)
        yield composition.placed(finding, place) if place else finding
