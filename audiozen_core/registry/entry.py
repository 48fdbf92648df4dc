"""One installed component, as the metadata of its distribution describes it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from audiozen_core.kinds import GROUPS
from audiozen_core.registry.compatibility import wanted_versions

FIRST_PARTY = "audiozen"
"""The distribution of AudioZEN's own components. A name without a distribution means them first."""

PREFIX = "audiozen."
"""What the names of the entry point groups begin with."""

NAME = r"\w[\w.+-]*"
"""What the name of a component may be: a regular expression for ASCII text."""


@dataclass(frozen=True, slots=True, order=True)
class Entry:
    """One installed component: an entry point, such as `sdnn = audiozen_plugins.model.sdnn:SDNN` in `audiozen.model`.

    The name of the distribution is normalised. `requirements` has only those on AudioZEN, such as `audiozen>=0.1`.
    """

    group: str
    name: str
    value: str
    distribution: str
    version: str
    requirements: tuple[str, ...] = ()

    @property
    def requires(self) -> str:
        """The versions of AudioZEN that the distribution requires, such as `<0.2,>=0.1`; "" for any."""
        return wanted_versions(self.requirements)

    @property
    def kind(self) -> str:
        """The kind of component: the group without `audiozen.`."""
        return self.group.removeprefix(PREFIX)

    @property
    def prose(self) -> str:
        """The kind in words, for messages. If AudioZEN does not know the group, this is the name of the kind."""
        return GROUPS[self.kind].prose if self.kind in GROUPS else self.kind

    @property
    def reachable(self) -> bool:
        """Whether a `path` or a command line can name the component."""
        # The name of a section is a key of a TOML file, without quotes.
        pattern = r"[\w-]+" if self.kind == "section" else NAME
        return re.fullmatch(pattern, self.name, re.ASCII) is not None

    @property
    def spelling(self) -> str:
        """The unambiguous spelling `distribution:name`."""
        return f"{self.distribution}:{self.name}"

    @property
    def title(self) -> str:
        """The component in words, such as `the model `sdnn` of audiozen 0.1.0`, for messages."""
        return f"the {self.prose} `{self.name}` of {self.origin}"

    @property
    def note(self) -> str:
        """The note of a finding about the component."""
        return f"component: {self.spelling} ({self.origin}, {self.group})"

    @property
    def origin(self) -> str:
        """The distribution with its version, for messages."""
        return f"{self.distribution} {self.version}".rstrip()
