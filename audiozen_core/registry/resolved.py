"""The object that a `path` names."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audiozen_core.binding.arguments import call_arguments
from audiozen_core.binding.signature import Signature, signature_of
from audiozen_core.registry.entry import Entry


@dataclass(frozen=True)  # without slots, because `signature` is a cached property
class Resolved:
    """The object that a `path` names.

    Attributes:
        path: the path as written in the TOML file.
        target: the object.
        dotted: the import path of the object: `audiozen_plugins.model.sdnn.SDNN` for the path `sdnn`.
        entry: the installed component, if the path names an installed component.
        printed: the text that the import wrote to standard output.
        changed: the parts of the process state that the import of installed modules has changed, such as "the working
            directory". These changes have been undone. If a module next to the TOML file changes the process state, the
            change is kept and not listed, because the module is part of the experiment.
    """

    path: str
    target: Any
    dotted: str
    entry: Entry | None
    printed: str
    changed: tuple[str, ...] = ()

    @functools.cached_property
    def signature(self) -> Signature | None:
        """The signature of the object; None if it can't be read."""
        return signature_of(self.target)

    def build(self, args: Mapping[str, Any]) -> Any:
        """Calls the object with arguments from a TOML file, like `build` in `binding.arguments`."""
        positional, keywords = call_arguments(self.signature, args)
        return self.target(*positional, **keywords)

    @property
    def notes(self) -> tuple[str, ...]:
        """The notes for a finding about the object. They name the distribution of an installed component."""
        return (self.entry.note,) if self.entry else ()
