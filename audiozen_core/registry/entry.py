"""An installed component, as described by the metadata of its distribution."""

from __future__ import annotations

import re
from dataclasses import dataclass

from audiozen_core.kinds import GROUPS
from audiozen_core.registry.compatibility import wanted_versions

FIRST_PARTY = "audiozen"
"""The distribution of AudioZEN's own components, which take precedence if a name is written without a distribution."""

PREFIX = "audiozen."
"""The prefix of the names of all entry point groups."""

NAME = r"\w[\w.+-]*"
"""A regular expression for valid names of components, to be used with `re.ASCII`."""


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One installed component: an entry point, such as `sdnn = audiozen_plugins.model.sdnn:SDNN` in `audiozen.model`.

    The name of the distribution is normalised. `requirements` holds only the requirements on AudioZEN, such as
    `audiozen>=0.1`.
    """

    group: str
    name: str
    value: str
    distribution: str
    version: str
    requirements: tuple[str, ...] = ()

    @property
    def requires(self) -> str:
        """The versions of AudioZEN that the distribution requires, such as `<0.2,>=0.1`; "" for any version."""
        return wanted_versions(self.requirements)

    @property
    def kind(self) -> str:
        """The kind of component: the group without `audiozen.`."""
        return self.group.removeprefix(PREFIX)

    @property
    def prose(self) -> str:
        """The noun for the kind in messages, or the name of the kind if AudioZEN does not know the kind."""
        return GROUPS[self.kind].prose if self.kind in GROUPS else self.kind

    @property
    def reachable(self) -> bool:
        """Whether the name of the component can be written as a `path`, as a section or on the command line."""
        # The name of a section must be a TOML key without quotes.
        pattern = r"[\w-]+" if self.kind == "section" else NAME
        return re.fullmatch(pattern, self.name, re.ASCII) is not None

    @property
    def spelling(self) -> str:
        """The unambiguous name of the component, `distribution:name`."""
        return f"{self.distribution}:{self.name}"

    @property
    def title(self) -> str:
        """A description of the component for messages, such as "the model `sdnn` of audiozen 0.1.0"."""
        return f"the {self.prose} `{self.name}` of {self.origin}"

    @property
    def note(self) -> str:
        """A note that identifies the component in a finding."""
        return f"component: {self.spelling} ({self.origin}, {self.group})"

    @property
    def origin(self) -> str:
        """The distribution and its version, for messages."""
        return f"{self.distribution} {self.version}".rstrip()
