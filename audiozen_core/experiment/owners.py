"""Adds notes to an error that name the component that caused it, so that users know where to report the error."""

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
    """Adds notes to an `AudioZenError`: about the components that the error names, and the distribution that raised it.

    An error names a component by its section, such as `[loss_function]`. An error names a nested component by the
    section of the outer component, and by the name of the nested class or function. Notes are added for components of
    installed plugins, and for components that are defined in files next to the TOML file.

    Args:
        checked: the configuration of the experiment. Its `scope` must be active.
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
    """A component that an experiment uses, from a plugin or from the experiment's own files.

    Attributes:
        title: the header of the component's section, or its kind and name.
        headers: the header of the component's section, and the headers of the sections that contain it, innermost
            first.
        target: the class or function.
        origin: the distribution with its version; "" for a component in the experiment's own files.
    """

    title: str
    headers: tuple[str, ...]
    target: Any
    origin: str

    def is_named(self, text: str) -> bool:
        header, *outer = self.headers
        within = any(each in text for each in outer)
        return header in text or (within and re.search(rf"\b{re.escape(_name(self.target))}\b", text) is not None)

    @property
    def note(self) -> str:
        place = _defined_in(self.target)
        owner = f" of {self.origin}" if self.origin else ""
        defined = f", defined in {place}" if place else ""
        return f"component: {self.title} is `{_name(self.target)}`{owner}{defined}"


class _Plugins:
    """The plugins that may have caused an error.

    Several plugins may share a package, so plugins that the experiment uses are searched first.

    Args:
        checked: the configuration of the experiment.
    """

    def __init__(self, checked: CheckedConfig) -> None:
        self._scope = checked.scope
        self._components = [component for outer in checked.components.values() for component in outer.walk()]
        self._used = sorted(entry for _, entry in checked.scope.used)
        self._entries = [entry for entry in (*self._used, *installed_index()) if entry.distribution != FIRST_PARTY]

    def components(self) -> Iterator[_Component]:
        """Yields the components that the experiment uses, except components of AudioZEN, torch and other packages."""
        for component in self._components:
            key, entry = component.component.key, component.resolved.entry
            first_party = entry is not None and entry.distribution == FIRST_PARTY
            origin = "" if first_party else entry.origin if entry else self._owner(f"{_file(component.target)}:")
            if origin or (entry is None and self._scope.is_local(component.resolved.dotted)):
                headers = tuple(f"[{'.'.join(map(str, key[:length]))}]" for length in range(len(key), 0, -1))
                yield _Component(headers[0], headers, component.target, origin)
        # A component that is named by a string in an argument, such as a metric of the trainer, has no section.
        with_section = {component.resolved.entry for component in self._components}
        for entry in self._used:
            module, _, name = entry.value.partition(":")
            target = getattr(sys.modules.get(module.strip()), name.strip(), None)
            if entry.distribution != FIRST_PARTY and entry not in with_section:
                yield _Component(f"the {entry.prose} `{entry.name}`", (entry.title, "[trainer]"), target, entry.origin)

    def raised_by(self, error: AudioZenError) -> str:
        """Returns the distribution whose code raised the cause of an error; "" if no plugin raised it."""
        # The notes contain the file even if the error was raised in a worker process of a data loader.
        files = [note.removeprefix(_RAISED_IN) for note in error.notes if note.startswith(_RAISED_IN)]
        # If a plugin passes a wrong argument to torch, the last frame belongs to torch, so all frames are searched.
        frames = traceback.extract_tb(error.__cause__.__traceback__) if error.__cause__ else []
        files += [f"{frame.filename}:{frame.lineno}" for frame in reversed(frames)]
        return next(filter(None, map(self._owner, files)), "")

    def _owner(self, file: str) -> str:
        """Returns the distribution that contains a file, written as `file:line`; "" if no plugin contains it."""
        return next((entry.origin for entry in self._entries if _has(entry, file)), "")


def _name(target: Any) -> str:
    return str(getattr(target, "__name__", type(target).__name__))


def _file(target: Any) -> str:
    """Returns the file that defines a class or a function; "" for built-ins and other objects."""
    try:
        return inspect.getsourcefile(target) or ""
    except TypeError:
        return ""


def _defined_in(target: Any) -> str:
    """Returns the `file:line` that defines a class or a function; "" for other objects or without source code."""
    try:
        return f"{_file(target)}:{inspect.getsourcelines(target)[1]}"
    except (OSError, TypeError):
        return ""


def _has(entry: Entry, file: str) -> bool:
    """Returns whether a file, written as `file:line, in function`, belongs to the package of a plugin's component."""
    package = sys.modules.get(entry.value.partition(":")[0].partition(".")[0].strip())
    folders = [f"{Path(folder)}/" for folder in getattr(package, "__path__", ())]
    module = getattr(package, "__file__", None)
    return file.startswith((*folders, f"{module}:")) if module or folders else False
