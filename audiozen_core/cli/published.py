"""Finds and imports the commands that plugins publish in the entry point group `audiozen.commands`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from audiozen_core.errors import RegistryError
    from audiozen_core.registry.entry import Entry


def published() -> dict[str, str]:
    """Returns the names of the commands, each with the distribution that publishes it. No command is imported.

    If several distributions publish a command with the same name, the commands are listed as `distribution:name`.
    """
    from audiozen_core.registry.index import installed_index

    index = installed_index()
    clashing = {entry for entries in index.clashes() for entry in entries}
    return {
        entry.spelling if entry in clashing else entry.name: f"from {entry.origin}"
        for entry in index.entries("commands")
    }


def published_command(name: str) -> click.Command | None:
    """Imports and returns a plugin's command. Returns None if no plugin publishes a command with this name.

    Raises:
        PathError: the command can't be imported or is made for another version of AudioZEN, or several commands have
            that name. The message names the distributions.
        RegistryError: the object is not a click command, or the plugin is switched off.
    """
    from audiozen_core.errors import RegistryError

    entry = _entry(name)
    if entry is None:
        _check_not_switched_off(name)
        return None
    from audiozen_core.registry.paths import load_entry, version_error

    if wrong := version_error(entry):
        raise wrong
    target = load_entry(entry, path=name).target
    if not isinstance(target, click.Command):
        raise RegistryError(
            f"the command `{name}` of {entry.origin} is broken: `{entry.value}` is not a click command",
            remedy=f"report it to the authors of {entry.distribution}",
        )
    return target


def _check_not_switched_off(name: str) -> None:
    from audiozen_core.errors import RegistryError
    from audiozen_core.registry.index import installed_index
    from audiozen_core.registry.switched_off import VARIABLE

    for entry in installed_index().off:
        if entry.kind == "commands" and name in (entry.name, entry.spelling):
            raise RegistryError(
                f"the command `{name}` of {entry.origin} is switched off by {VARIABLE}",
                remedy=f"remove `{entry.distribution}` from {VARIABLE}",
            )


def failed_command(name: str, error: Exception) -> RegistryError | None:
    """Returns an error for an exception in a plugin's command. The message of the error names the distribution.

    Returns None if no plugin publishes the command.
    """
    from audiozen_core.errors import RegistryError

    entry = _entry(name)
    if entry is None:
        return None
    return RegistryError.caused_by(
        error,
        f"the command `{name}` of {entry.origin} failed:",
        remedy=f"report it to the authors of {entry.distribution}",
    )


def _entry(name: str) -> Entry | None:
    from audiozen_core.registry.index import installed_index

    index = installed_index()
    known = any(name in (entry.name, entry.spelling) for entry in index.entries("commands"))
    return index.find(name, "commands") if known else None
