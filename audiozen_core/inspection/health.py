"""All that is wrong with what is installed, each thing with what to do about it."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from audiozen_core import __version__
from audiozen_core.diagnostics.suggestions import did_you_mean, near_names
from audiozen_core.errors import RegistryError
from audiozen_core.inspection.imports import Problem, import_all
from audiozen_core.kinds import GROUPS
from audiozen_core.registry.compatibility import admits
from audiozen_core.registry.index import FIRST_PARTY, Entry, PluginIndex

# Neither keeps a component from being used as it is meant.
_HARMLESS = ("prints", "missing_extra")
_GROUPS = ", ".join(f"audiozen.{kind}" for kind in GROUPS)


@dataclass(frozen=True, slots=True)
class Ailment:
    """One thing that is wrong with an installed component.

    Attributes:
        kind: `broken`, `hangs`, `dies`, `hook`, `wrong_kind`, `prints`, `missing_extra`, `clash`, `other_version`,
            `unknown_group`, `metadata`, or `not_started`.
        message: what is wrong, in one line.
        remedy: the command or the change that helps.
        spellings: the components that it is about, as `distribution:name`.
        origins: the distributions with their versions.
        group: the entry point group, "" where it is about none.
        traceback: the component's own part of a traceback.
    """

    kind: str
    message: str
    remedy: str
    spellings: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    group: str = ""
    traceback: str = ""

    @property
    def harmless(self) -> bool:
        """Whether it is only to be mentioned."""
        return self.kind in _HARMLESS


def without_imports(index: PluginIndex, commands: Collection[str] = ()) -> Iterator[Ailment]:
    """What the metadata alone tell: clashes, unknown groups, other versions, metadata that can't be read.

    Args:
        index: what is installed.
        commands: the names of AudioZEN's own commands, which no plugin can have.
    """
    for problem in index.problems:
        yield Ailment("metadata", problem, "pip install --force-reinstall the distribution, or remove that folder")
    for entries in index.clashes():
        spellings = tuple(entry.spelling for entry in entries)
        owners = " and ".join(entry.origin for entry in entries)
        what = entries[0].prose
        ways = " or ".join(f"`{spelling}`" for spelling in spellings)
        others = " ".join(sorted({entry.distribution for entry in entries} - {FIRST_PARTY}))
        yield Ailment(
            "clash",
            f"the {what} `{entries[0].name}` is of {owners}",
            f"write {ways}, or pip uninstall one of {others}",
            spellings,
            tuple(entry.origin for entry in entries),
            entries[0].group,
        )
    yield from _misplaced(index, commands)
    seen = set()
    for entry in index:
        if entry.distribution not in seen and not admits(entry.requires, __version__):
            seen.add(entry.distribution)
            yield Ailment(
                "other_version",
                f"{entry.origin} is made for audiozen{entry.requires}; this is audiozen {__version__}",
                f"pip install --upgrade {entry.distribution}, or pip install 'audiozen{entry.requires}'",
                (),
                (entry.origin,),
            )


def _misplaced(index: PluginIndex, commands: Collection[str]) -> Iterator[Ailment]:
    """Entry points where nobody looks for them."""
    for entry in index:
        about = ((entry.spelling,), (entry.origin,), entry.group)
        if entry.kind not in GROUPS:
            near = did_you_mean(tuple(f"audiozen.{kind}" for kind in near_names(entry.kind, GROUPS)))
            message = f"`{entry.name}` of {entry.origin} is in the group {entry.group}, which nothing reads"
            yield Ailment("unknown_group", message, near or f"the groups are {_GROUPS}", *about)
        elif entry.kind == "commands" and entry.name in commands:
            message = f"the command `{entry.name}` of {entry.origin} has the name of one of AudioZEN's own"
            yield Ailment("clash", message, f"call it as `audiozen {entry.spelling}`", *about)


def with_imports(index: PluginIndex, limit: float) -> Iterator[Ailment]:
    """What comes to light when everything is imported, in a child process.

    Args:
        index: what is installed.
        limit: seconds that one import may take.
    """
    entries = [entry for entry in index if entry.kind in GROUPS]
    try:
        for entry, problems in import_all(entries, limit):
            for problem in problems:
                yield _ailment(entry, problem)
    except RegistryError as error:
        # Metadata that can't be read may keep torch itself from being imported.
        yield Ailment(
            "not_started",
            error.message,
            "mend what is named above, or look at the traceback",
            traceback="\n".join(error.notes),
        )


def only_of(index: PluginIndex, distributions: Collection[str]) -> PluginIndex:
    """The part of an index that is of some distributions, and what clashes with them."""
    names = {(entry.group, entry.name) for entry in index if entry.distribution in distributions}
    kept = [entry for entry in index if entry.distribution in distributions or (entry.group, entry.name) in names]
    return PluginIndex(kept)


def _ailment(entry: Entry, problem: Problem) -> Ailment:
    # The doctor says itself whose component it is.
    message = problem["message"].partition(" is broken: ")[2] or problem["message"]
    return Ailment(
        problem["kind"],
        f"the {entry.prose} `{entry.name}` of {entry.origin}: {message}",
        _remedy(entry, problem),
        (entry.spelling,),
        (entry.origin,),
        entry.group,
        problem["traceback"],
    )


def _remedy(entry: Entry, problem: Problem) -> str:
    if problem["kind"] == "prints":
        return _tell(entry)
    # What the component itself says, if it is a command or a change, goes first.
    said = problem["remedy"] if not problem["remedy"].startswith("tell the authors") else ""
    pip = f"pip install --upgrade {entry.distribution}, or pip uninstall {entry.distribution}"
    return said if said.startswith("pip ") else "; ".join(filter(None, (said, pip)))


def _tell(entry: Entry) -> str:
    return f"tell the authors of {entry.distribution}"
