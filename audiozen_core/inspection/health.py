"""Finds problems with the installed components, for `audiozen plugins doctor`.

Each finding names its components in notes of the form `component: acme:sdr (acme 1.0, audiozen.metric)`. A finding is a
warning if the component can still be used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from audiozen_core.config.plugin_sections import KIND, is_taken
from audiozen_core.diagnostics import codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Severity
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.errors import RegistryError
from audiozen_core.inspection.imports import import_all
from audiozen_core.inspection.stray_groups import StrayGroup
from audiozen_core.kinds import GROUPS
from audiozen_core.registry.entry import FIRST_PARTY, Entry
from audiozen_core.registry.index import PluginIndex
from audiozen_core.registry.paths import version_error

_GROUPS = ", ".join(f"audiozen.{kind}" for kind in GROUPS)


def metadata_findings(index: PluginIndex, commands: Collection[str] = ()) -> Iterator[Diagnostic]:
    """Yields problems in the metadata: clashes, unknown groups, wrong versions, and metadata that can't be read.

    Args:
        index: the installed components.
        commands: the names of AudioZEN's own commands, which a plugin can't replace.
    """
    for problems in index.problems.values():
        yield from problems
    for entries in index.clashes():
        first, *others = entries
        owners = " and ".join(entry.origin for entry in entries)
        message = f"the {first.prose} `{first.name}` is published by {owners}"
        ways = " or ".join(f"`{entry.spelling}`" for entry in entries)
        remedy = f"write {ways}, or pip uninstall one of {' '.join(entry.distribution for entry in entries)}"
        if first.kind == KIND:
            ways = " or ".join(f"`--without {entry.distribution}`" for entry in entries)
            remedy = f"switch one of them off with {ways}"
        harmless = first.distribution == FIRST_PARTY
        if harmless:
            ways = " or ".join(f"`{entry.spelling}`" for entry in others)
            remedy = f"`{first.name}` alone means the one in {FIRST_PARTY}; write {ways} to use the other one"
        yield _finding(codes.CLASH, message, remedy, entries, severity="warning" if harmless else "error")
    yield from _misplaced(index, commands)
    seen = set()
    for entry in index:
        if entry.distribution not in seen and (wrong := version_error(entry)):
            seen.add(entry.distribution)
            affected = [other for other in index if other.distribution == entry.distribution]
            yield _finding(wrong.code, wrong.message, wrong.remedy, affected)


def stray_group_findings(strays: Iterable[StrayGroup]) -> Iterator[Diagnostic]:
    """Yields a finding for each group that was probably meant for AudioZEN, such as `audiozen_models`."""
    for stray in strays:
        origin = f"{stray.distribution} {stray.version}".rstrip()
        message = f"{origin} has the entry point group {stray.group}, which AudioZEN does not read"
        notes = (f"component: {stray.distribution} ({origin}, {stray.group})",)
        remedy = did_you_mean(stray.intended_group) or f"the groups are {_GROUPS}"
        yield _finding(codes.UNKNOWN_GROUP, message, remedy, notes=notes)


def _misplaced(index: PluginIndex, commands: Collection[str]) -> Iterator[Diagnostic]:
    """Yields problems with entry points: an unknown group, an invalid name, or a name that AudioZEN itself uses."""
    for entry in index:
        if entry.kind not in GROUPS:
            near = nearest(entry.kind, GROUPS)
            remedy = did_you_mean(f"audiozen.{near}") if near else f"the groups are {_GROUPS}"
            message = f"`{entry.name}` of {entry.origin} is in the group {entry.group}, which AudioZEN does not read"
            yield _finding(codes.UNKNOWN_GROUP, message, remedy, [entry])
        elif not entry.reachable:
            message = f"no TOML file or command line can name {entry.title}"
            remedy = "use letters, digits, `_`, `.`, `+` and `-`, and begin with a letter, a digit or `_`"
            yield _finding(codes.UNREACHABLE_NAME, message, remedy, [entry])
        elif entry.kind == KIND and is_taken(entry.name):
            message = f"{entry.title} has the name of one of AudioZEN's own sections, so no TOML file can use it"
            yield _finding(codes.CLASH, message, "give the entry point another name", [entry])
        elif entry.kind == "commands" and entry.name in commands:
            message = f"the command `{entry.name}` of {entry.origin} has the name of one of AudioZEN's own commands"
            yield _finding(codes.CLASH, message, f"call it as `audiozen {entry.spelling}`", [entry])


def import_findings(index: PluginIndex, limit: float) -> Iterator[Diagnostic]:
    """Imports every component in a child process, and yields the problems. One import may take `limit` seconds."""
    entries = [entry for entry in index if entry.kind in GROUPS]
    try:
        for entry, findings in import_all(entries, limit):
            for finding in findings:
                yield replace(finding, notes=(entry.note, *finding.notes, *_more_help(entry, finding)))
    except RegistryError as error:
        # If metadata can't be read, the import of torch itself may fail.
        remedy = "fix the metadata named above, or read the output of the process"
        yield _finding(codes.IMPORTS_NOT_STARTED, error.message, remedy, notes=error.notes)


def select_distributions(index: PluginIndex, distributions: Collection[str]) -> PluginIndex:
    """Returns an index of some distributions, and of the components in other distributions that clash with them."""
    names = {(entry.group, entry.name) for entry in index if entry.distribution in distributions}
    return PluginIndex(
        (entry for entry in index if entry.distribution in distributions or (entry.group, entry.name) in names),
        {name: problems for name, problems in index.problems.items() if name in distributions},
    )


def _finding(
    code: str,
    message: str,
    remedy: str,
    entries: Sequence[Entry] = (),
    notes: Sequence[str] = (),
    severity: Severity = "error",
) -> Diagnostic:
    return Diagnostic(code, message, severity, notes=(*(entry.note for entry in entries), *notes, f"help: {remedy}"))


def _more_help(entry: Entry, finding: Diagnostic) -> tuple[str, ...]:
    """Returns the pip commands that may fix a broken component, unless the finding already has such a command."""
    if finding.severity == "warning" or any(note.startswith("help: pip ") for note in finding.notes):
        return ()
    return (f"help: pip install --upgrade {entry.distribution}, or pip uninstall {entry.distribution}",)
