"""Finds the installed distribution that provides a module."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib import metadata
from typing import NamedTuple

from audiozen_core.registry.index import installed_index
from audiozen_core.registry.installed import installed_version
from audiozen_core.registry.scope import installed_path


class ProvidedModules(NamedTuple):
    """The version of a distribution, and the top-level modules that it provides."""

    version: str
    modules: frozenset[str]


def providers(modules: Iterable[str], search_path: Iterable[str]) -> dict[str, str]:
    """Returns the name and version of each distribution on a `sys.path` that provides one of the top-level modules.

    If a distribution is found more than once, only the first is used, as in an import.
    """
    wanted = frozenset(modules)
    versions: dict[str, str] = {}
    for folder in search_path:
        for name, provided in _distributions_in(folder).items():
            if provided.modules & wanted:
                versions.setdefault(name, provided.version)
    return versions


@functools.cache
def distributions_with(module: str) -> tuple[str, ...]:
    """Returns the names of the distributions that contain a top-level module."""
    # The entry points of a plugin name its distribution, even for an editable installation.
    entries = installed_index().entries()
    names = {entry.distribution for entry in entries if entry.value.partition(":")[0].partition(".")[0] == module}
    if names:
        return tuple(sorted(names))
    # `providers` reads thousands of file names, so it is called only as the last resort.
    return tuple(providers([module], installed_path()))


@functools.cache
def version_of(distribution: str) -> str:
    """Returns the version of an installed distribution; "" if it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def numba_version() -> str:
    """Returns the version of the installed numba, "none" if it is not installed, or "unknown" if it can't be read.

    Numba is imported only at the first call of a kernel, so `sys.modules` can't tell whether it is installed.
    """
    return _numba_version(tuple(installed_path()))


@functools.cache
def _numba_version(search_path: tuple[str, ...]) -> str:
    try:
        version = installed_version("numba", search_path)
    except (OSError, UnicodeDecodeError):
        return "unknown"
    return "none" if version is None else version or "unknown"


@functools.cache
def _distributions_in(folder: str) -> Mapping[str, ProvidedModules]:
    """Returns each distribution in a folder, by name.

    The result is cached, because this function reads thousands of file names. A distribution with unreadable metadata
    is left out, because it must not stop a run or an evaluation.
    """
    found: dict[str, ProvidedModules] = {}
    for distribution in metadata.distributions(path=[folder]):
        with suppress(UnicodeDecodeError):
            headers, modules = distribution.metadata, _modules_of(distribution)
            # The type of the metadata has no method `get`.
            name, version = (headers[key] if key in headers else "" for key in ("Name", "Version"))  # noqa: SIM401
            if name and version:
                found.setdefault(name, ProvidedModules(version, modules))
    return found


def _modules_of(distribution: metadata.Distribution) -> frozenset[str]:
    if modules := (distribution.read_text("top_level.txt") or "").split():
        return frozenset(modules)
    lines = (distribution.read_text("RECORD") or "").splitlines()
    files = (line.partition(",")[0].split("/") for line in lines if ".py," in line)
    return frozenset(first if rest else first.removesuffix(".py") for first, *rest in files)
