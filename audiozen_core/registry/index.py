"""Reads the index of installed components from the metadata of distributions, without importing any plugin."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from audiozen_core.diagnostics import codes
from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.kinds import GROUPS
from audiozen_core.registry.entry import FIRST_PARTY, PREFIX, Entry
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.installed import distribution_of, metadata_folders, normalised, read_metadata
from audiozen_core.registry.scope import installed_path
from audiozen_core.registry.switched_off import HOW_SWITCHED_OFF, VARIABLE, switched_off


class PluginIndex:
    """Installed components by kind and name.

    Args:
        entries: the components.
        problems: the findings about metadata that could not be read, by distribution.
        off: the installed components that are switched off.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        problems: Mapping[str, Sequence[Diagnostic]] | None = None,
        off: Iterable[Entry] = (),
    ) -> None:
        self._entries = tuple(sorted(set(entries)))
        self.problems = dict(problems or {})
        self.off = tuple(sorted(set(off)))

    @classmethod
    def scan(cls, search_path: Iterable[str]) -> PluginIndex:
        """Reads the metadata of every distribution on a search path.

        If a distribution is found twice, only the first is used, as in an import.
        """
        entries: dict[tuple[str, str, str], Entry] = {}
        problems: dict[str, list[Diagnostic]] = {}
        for folder in metadata_folders(search_path):
            try:
                text = read_metadata(folder, "entry_points.txt")
                if PREFIX not in text:
                    continue
                headers = read_metadata(folder, "METADATA") or read_metadata(folder, "PKG-INFO")
                name, version, requirements = read_headers(headers)
                if name != distribution_of(folder):
                    # Otherwise a distribution that calls itself `audiozen` could replace AudioZEN's own components.
                    raise ValueError(f"it says that it belongs to `{name}`")
                lines = list(_parse(text))
            except (OSError, ValueError) as error:
                what = f"the metadata in {folder} can't be read: {error}"
                problems.setdefault(distribution_of(folder), []).append(_bad_metadata(what, "remove the folder"))
                continue
            for group, key, value in lines:
                entry = Entry(group, key, value, name, version, requirements)
                if entries.setdefault((group, key, name), entry) is not entry:
                    what = f"{entry.origin} has two entry points `{key}` in the group {group}"
                    problems.setdefault(name, []).append(_bad_metadata(what, "remove one of them"))
        return cls(entries.values(), problems)

    def without(self, distributions: Collection[str]) -> PluginIndex:
        """Returns the index without the components of some distributions.

        Args:
            distributions: the normalised names of the distributions.

        Raises:
            PathError: a distribution is not installed, has no components, or is AudioZEN itself.
        """
        owners = {entry.distribution for entry in self._entries}
        for name in distributions:
            if name == FIRST_PARTY:
                message = f"{VARIABLE} and `--without` can't switch AudioZEN itself off"
                remedy = "to switch a default hook off, write `enabled = false` in its entry of [[hooks]]"
                raise PathError(codes.UNKNOWN_DISTRIBUTION, message, remedy=remedy)
            if name not in owners:
                message = f"`{name}` can't be switched off: no distribution of this name with components is installed"
                others = owners - {FIRST_PARTY}
                installed = f"installed: {', '.join(sorted(others)) or 'no plugin'}"
                remedy = did_you_mean(nearest(name, others)) or f"correct `--without` or {VARIABLE}"
                raise PathError(codes.UNKNOWN_DISTRIBUTION, message, remedy=remedy, notes=[installed])
        off = [entry for entry in self._entries if entry.distribution in distributions]
        return PluginIndex(set(self._entries) - set(off), self.problems, off)

    def __iter__(self) -> Iterator[Entry]:
        """Returns all components, sorted by group, name and distribution."""
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self, kind: str | None = None) -> tuple[Entry, ...]:
        """Returns the components of one kind, or of all kinds."""
        return tuple(entry for entry in self._entries if kind is None or entry.kind == kind)

    def names(self, kind: str | None = None) -> tuple[str, ...]:
        """Returns the names of the components of one kind, or of all kinds, sorted and without duplicates."""
        return tuple(sorted({entry.name for entry in self.entries(kind)}))

    def clashes(self) -> tuple[tuple[Entry, ...], ...]:
        """Returns groups of components with the same kind and name, from different distributions.

        If a group contains a component of AudioZEN, this component comes first, because a name without a distribution
        means it. Components of the kind `hookspecs` are ignored, because no TOML file uses their names.
        """
        by_name: dict[tuple[str, str], list[Entry]] = {}
        for entry in sorted(self._entries, key=lambda entry: entry.distribution != FIRST_PARTY):
            if entry.kind == "hookspecs":
                continue
            by_name.setdefault((entry.group, entry.name), []).append(entry)
        return tuple(tuple(entries) for entries in by_name.values() if len(entries) > 1)

    def find(self, name: str, kind: str | None = None) -> Entry:
        """Returns the component with a name of the form `name` or `distribution:name`.

        For a name without a distribution, AudioZEN's own component takes precedence, so that installing a plugin never
        changes the components of an experiment. `namesakes` returns the components of other distributions.

        Raises:
            PathError: the name or the distribution does not exist; or AudioZEN has no such component and several
                plugins do.
        """
        distribution, colon, plain = name.rpartition(":")
        entries = self.entries(kind)
        if colon:
            owner = normalised(distribution)
            entries = tuple(entry for entry in entries if entry.distribution == owner)
            if not any(entry.distribution == owner for entry in self._entries):
                raise self._unknown_distribution(distribution, plain, kind)
        found = [entry for entry in entries if entry.name == plain]
        if not found:
            raise self._unknown_name(name, plain, entries, kind)
        found = [entry for entry in found if entry.distribution == FIRST_PARTY] or found
        if len(found) > 1:
            raise _clash(plain, found)
        return found[0]

    def namesakes(self, entry: Entry) -> tuple[Entry, ...]:
        """Returns the components of other distributions that have the same kind and name."""
        return tuple(other for other in self.entries(entry.kind) if other.name == entry.name and other != entry)

    def _unknown_name(self, name: str, plain: str, entries: Sequence[Entry], kind: str | None) -> PathError:
        prefix = name[: len(name) - len(plain)]
        known = GROUPS.get(kind or "")
        what = known.prose if known else "component"
        names = sorted({entry.name for entry in entries})
        notes = [f"installed: {', '.join(names) if names else f'no {what} at all'}"]
        for other in (entry for entry in self._entries if entry.name == plain and entry not in entries):
            if kind and other.kind != kind:
                notes.append(f"note: `{plain}` of {other.origin} is a {other.prose}")
            else:
                notes.append(f"note: {other.origin} has a `{plain}`; write `{other.spelling}`")
        notes += [off_note(other) for other in self.off if other.name == plain and kind in (None, other.kind)]
        near = nearest(plain, names)
        example = f", such as `{known.example}`" if known and known.example else ""
        return PathError(
            codes.UNKNOWN_NAME,
            f"`{prefix[:-1]}` has no {what} named `{plain}`" if prefix else f"no {what} named `{plain}` is installed",
            suggestion=prefix + near if near else None,
            notes=notes,
            remedy=f"to use a class or function of a module, write its dotted path{example}",
        )

    def _unknown_distribution(self, distribution: str, plain: str, kind: str | None) -> PathError:
        owners = sorted({entry.distribution for entry in self._entries})
        near = nearest(normalised(distribution), owners)
        suggestion = f"{near}:{plain}" if near else None
        if "." in distribution and all(part.isidentifier() for part in (*distribution.split("."), plain)):
            suggestion = f"{distribution}.{plain}"
        notes = [f"installed: {', '.join(owners) or 'no distribution with components'}"]
        if spellings := [f"`{entry.spelling}`" for entry in self.entries(kind) if entry.name == plain]:
            notes.append(f"note: there is {', '.join(spellings)}")
        notes += [off_note(other) for other in self.off if other.distribution == normalised(distribution)][:1]
        return PathError(
            codes.UNKNOWN_DISTRIBUTION,
            f"no distribution `{distribution}` with components is installed",
            suggestion=suggestion,
            notes=notes,
            remedy="`distribution:name` names a component of one distribution; a dotted path has no colon",
        )


def installed_index() -> PluginIndex:
    """Returns the index of the components that are available in this process and not switched off.

    The folders of an experiment are not searched. The index is cached for each value of `sys.path`.

    Raises:
        PathError: a distribution that `AUDIOZEN_WITHOUT` names is not installed.
    """
    path, off = tuple(installed_path()), switched_off()
    return _without_once(path, off) if off else _scan_once(path)


def forget_installed() -> None:
    """Makes the next call of `installed_index` read the metadata again. Call it after installing a distribution."""
    _scan_once.cache_clear()
    _without_once.cache_clear()


_scan_once = functools.cache(PluginIndex.scan)


@functools.cache
def _without_once(path: tuple[str, ...], off: tuple[str, ...]) -> PluginIndex:
    return _scan_once(path).without(off)


def off_note(entry: Entry) -> str:
    """Returns the note about a component that is switched off."""
    return f"note: {entry.title} is {HOW_SWITCHED_OFF}"


def _bad_metadata(message: str, otherwise: str) -> Diagnostic:
    remedy = f"help: reinstall the distribution with pip install --force-reinstall, or {otherwise}"
    return Diagnostic(codes.BAD_METADATA, message, notes=(remedy,))


def _clash(name: str, entries: Sequence[Entry]) -> PathError:
    of_one_kind = len({entry.kind for entry in entries}) == 1
    owners = [entry.origin if of_one_kind else f"{entry.origin} ({entry.kind})" for entry in entries]
    spellings = list(dict.fromkeys(f"`{entry.spelling}`" for entry in entries))
    if len(spellings) == 1:  # one distribution has several components with that name, of different kinds
        spellings = [f"`--kind {entry.kind}`" for entry in entries]
    return PathError(
        codes.CLASH,
        f"`{name}` is the name of {len(entries)} installed components, of {' and '.join(owners)}",
        label=f"write {' or '.join(spellings)}",
    )


def read_headers(text: str) -> tuple[str, str, tuple[str, ...]]:
    """Returns the name, the version and the requirements on AudioZEN from the headers of a metadata file.

    Raises:
        ValueError: the metadata has no name.
    """
    headers: dict[str, list[str]] = {}
    for key, value in _HEADER.findall(_DESCRIPTION.split(text, 1)[0]):
        headers.setdefault(key.lower(), []).append(value.strip())
    name = headers.get("name", [""])[0]
    if not name:
        raise ValueError("it has no name")
    # The requirements are parsed only when they are needed, because parsing is slow. AudioZEN's extras require AudioZEN
    # itself. These requirements are always met, so they are ignored here.
    on_audiozen = (text for text in headers.get("requires-dist", ()) if _is_on_audiozen(text) and name != FIRST_PARTY)
    return normalised(name), headers.get("version", [""])[0], tuple(on_audiozen)


_HEADER = re.compile(r"^(name|version|requires-dist)[ \t]*:(.*)", re.IGNORECASE | re.MULTILINE)
_DESCRIPTION = re.compile(r"^[ \t]*\r?$", re.MULTILINE)  # the description follows an empty line


def _is_on_audiozen(requirement: str) -> bool:
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    return name is not None and normalised(name[0]) == FIRST_PARTY


def _parse(text: str) -> Iterator[tuple[str, str, str]]:
    """Yields the group, the name and the value of each entry point in the groups `audiozen.…`."""
    group = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            group = line[1:-1].strip()
        elif group.startswith(PREFIX) and line and line[0] not in "#;":
            name, equals, value = line.partition("=")
            if not equals or not name.strip() or not value.strip():
                raise ValueError(f"`{line}` in entry_points.txt is not `name = module:attribute`")
            yield group, name.strip(), value.strip()
