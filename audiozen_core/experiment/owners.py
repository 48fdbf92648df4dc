"""Names the component that has caused an error, its distribution and its line, so that the user knows whom to tell."""

from __future__ import annotations

import inspect
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audiozen_core.config.checked import CheckedConfig
from audiozen_core.errors import AudioZenError
from audiozen_core.registry.entry import FIRST_PARTY, Entry
from audiozen_core.registry.index import installed_index

_RAISED_IN = "raised in: "


@contextmanager
def name_owners(checked: CheckedConfig) -> Iterator[None]:
    """Adds notes to an `AudioZenError`: the components that it names, and the distribution whose code has raised it.

    An error names a component by its section, such as `[loss_function]`. It names an inner component by the section of
    the outer one, and by its own class or function. Components of installed plugins get a note, and those of the
    experiment itself, in files beside its TOML file.

    Args:
        checked: the configuration of the experiment, whose scope is open.
    """
    try:
        yield
    except AudioZenError as error:
        text = "\n".join((error.message, *error.notes))
        plugins = _Plugins(checked)
        found = [component.note for component in plugins.components() if component.is_named(text)]
        origin = plugins.raised_by(error)
        if origin and not any(f" of {origin}" in note for note in found):
            found.append(f"distribution: {origin}")
        error.notes = (*error.notes, *(note for note in dict.fromkeys(found) if note not in error.notes))
        raise


@dataclass(frozen=True)
class _Component:
    """A component that an experiment uses, of a plugin or of the experiment itself.

    Attributes:
        title: what it is in the experiment: the header of its section, or its kind and name.
        headers: the headers of its section and of those around it, innermost first.
        target: its class or function.
        origin: its distribution, with the version; "" if it is the experiment's own.
    """

    title: str
    headers: tuple[str, ...]
    target: Any
    origin: str

    def is_named(self, text: str) -> bool:
        own, *around = self.headers
        within = any(header in text for header in around)
        return own in text or (within and re.search(rf"\b{re.escape(_name(self.target))}\b", text) is not None)

    @property
    def note(self) -> str:
        place = _defined_in(self.target)
        owner = f" of {self.origin}" if self.origin else ""
        defined = f", defined in {place}" if place else ""
        return f"component: {self.title} is `{_name(self.target)}`{owner}{defined}"


class _Plugins:
    """The plugins that may have caused an error. Those in use come first, because plugins may share packages.

    Args:
        checked: the configuration of the experiment.
    """

    def __init__(self, checked: CheckedConfig) -> None:
        self._scope = checked.scope
        self._components = [one for outer in checked.components.values() for one in outer.walk()]
        self._used = sorted(entry for _, entry in checked.scope.used)
        self._entries = [entry for entry in (*self._used, *installed_index()) if entry.distribution != FIRST_PARTY]

    def components(self) -> Iterator[_Component]:
        """Yields the components that the experiment uses, except those of AudioZEN, torch and other packages."""
        for one in self._components:
            key, entry = one.component.key, one.resolved.entry
            own = entry is not None and entry.distribution == FIRST_PARTY
            origin = "" if own else entry.origin if entry else self._owner(f"{_file(one.target)}:")
            if origin or (entry is None and self._scope.is_local(one.resolved.dotted)):
                headers = tuple(f"[{'.'.join(map(str, key[:length]))}]" for length in range(len(key), 0, -1))
                yield _Component(headers[0], headers, one.target, origin)
        # A metric that an argument of the trainer names by a string has no section.
        known = {one.resolved.entry for one in self._components}
        for entry in self._used:
            module, _, name = entry.value.partition(":")
            target = getattr(sys.modules.get(module.strip()), name.strip(), None)
            if entry.distribution != FIRST_PARTY and entry not in known:
                yield _Component(f"the {entry.prose} `{entry.name}`", (entry.title, "[trainer]"), target, entry.origin)

    def raised_by(self, error: AudioZenError) -> str:
        """Returns the distribution whose code has raised the cause of an error; "" if no plugin has."""
        # The notes have the file even if the error was raised in another process, where a data set was read.
        files = [note.removeprefix(_RAISED_IN) for note in error.notes if note.startswith(_RAISED_IN)]
        # If a plugin has called torch with something wrong, torch has raised the error.
        frames = traceback.extract_tb(error.__cause__.__traceback__) if error.__cause__ else []
        files += [f"{frame.filename}:{frame.lineno}" for frame in reversed(frames)]
        return next(filter(None, map(self._owner, files)), "")

    def _owner(self, file: str) -> str:
        """Returns the distribution that a file, given as `file:line`, belongs to; "" if it is not a plugin's."""
        return next((entry.origin for entry in self._entries if _has(entry, file)), "")


def _name(target: Any) -> str:
    return str(getattr(target, "__name__", type(target).__name__))


def _file(target: Any) -> str:
    """Returns the file that defines a class or a function; "" if it is neither, or built in."""
    try:
        return inspect.getsourcefile(target) or ""
    except TypeError:
        return ""


def _defined_in(target: Any) -> str:
    """Returns where a class or a function is defined, as `file:line`; "" if it is neither, or has no source."""
    try:
        return f"{_file(target)}:{inspect.getsourcelines(target)[1]}"
    except (OSError, TypeError):
        return ""


def _has(entry: Entry, file: str) -> bool:
    """Returns whether a file, given as `file:line, in function`, belongs to the package of a plugin's component."""
    package = sys.modules.get(entry.value.partition(":")[0].partition(".")[0].strip())
    folders = [f"{Path(folder)}/" for folder in getattr(package, "__path__", ())]
    module = getattr(package, "__file__", None)
    return file.startswith((*folders, f"{module}:")) if module or folders else False
