"""The index of installed components, read from metadata alone: no plugin is imported for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

KINDS = (
    "trainer",
    "loss_function",
    "lr_scheduler",
    "optimizer",
    "model",
    "dataset",
    "metric",
    "hooks",
    "commands",
)
"""The kinds of components; the entry point group of a kind is `audiozen.<kind>`."""


def kind_of(section: str) -> str | None:
    """The kind of component that a section of the TOML names, or None for other sections.

    >>> kind_of("model_g"), kind_of("train_dataset"), kind_of("loss"), kind_of("meta")
    ('model', 'dataset', 'loss_function', None)
    """
    raise NotImplementedError


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One installed component.

    Attributes:
        group: the entry point group, such as `audiozen.model`.
        name: what a TOML says.
        value: where it lies, such as `audiozen_plugins.model.sdnn:SDNN`.
        distribution: the name of the distribution that brings it, normalised (`acme-losses`).
        version: the version of that distribution.
    """

    group: str
    name: str
    value: str
    distribution: str
    version: str

    @property
    def kind(self) -> str:
        """The kind of component: the group without `audiozen.`."""
        return self.group.removeprefix("audiozen.")

    @property
    def spelling(self) -> str:
        """The unambiguous spelling `distribution:name`."""
        return f"{self.distribution}:{self.name}"


class PluginIndex:
    """Installed components by kind and name.

    Args:
        entries: the components.
        problems: what could not be read, as sentences.
    """

    def __init__(self, entries: Iterable[Entry], problems: Sequence[str] = ()) -> None:
        raise NotImplementedError

    @classmethod
    def scan(cls, search_path: Sequence[str] | None = None) -> PluginIndex:
        """Reads the metadata of every distribution on the search path (default: `sys.path`)."""
        raise NotImplementedError

    def __iter__(self) -> Iterator[Entry]:
        """All components, sorted by group, name and distribution."""
        raise NotImplementedError

    def entries(self, kind: str | None = None) -> tuple[Entry, ...]:
        """The components of one kind, or of all."""
        raise NotImplementedError

    def names(self, kind: str | None = None) -> tuple[str, ...]:
        """The names of one kind (or of all), sorted, each once."""
        raise NotImplementedError

    def clashes(self) -> tuple[tuple[Entry, ...], ...]:
        """Groups of entries of one kind and one name that come from different distributions."""
        raise NotImplementedError

    def find(self, name: str, kind: str | None = None) -> Entry:
        """The component of that name, given as `name` or `distribution:name`.

        Raises:
            RegistryError: no such name (with near ones), no such distribution, or several with that name.
        """
        raise NotImplementedError


def installed_index() -> PluginIndex:
    """The index of this process, scanned once for each state of `sys.path` (the folders of an experiment left out)."""
    raise NotImplementedError
