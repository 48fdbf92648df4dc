"""The error for a `path` that leads nowhere. It carries a finding that the config check can place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.suggestions import did_you_mean
from audiozen_core.diagnostics.toml_text import toml_text
from audiozen_core.errors import RegistryError

Reason = Literal[
    "malformed",
    "unknown_name",
    "clash",
    "no_module",
    "no_attribute",
    "import_failed",
    "is_module",
    "unknown_distribution",
]

CODES: dict[Reason, str] = {
    "malformed": "AZ202",
    "unknown_name": "AZ203",
    "clash": "AZ204",
    "no_module": "AZ205",
    "no_attribute": "AZ206",
    "import_failed": "AZ207",
    "is_module": "AZ208",
    "unknown_distribution": "AZ209",
}
"""The stable code of each reason."""


class PathError(RegistryError):
    """A `path` does not lead to an object. If a module failed to import, its exception is the `__cause__`.

    Args:
        reason: why, in a word; it determines the `code`.
        message: what is wrong, in one line.
        near: similar paths that exist, best first; the first is the suggestion.
        label: what to say at the caret; by default the question "did you mean …?", or nothing.
        remedy: what to do about it.
        notes: further lines, each "kind: text".
    """

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        near: Sequence[str] = (),
        label: str = "",
        remedy: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(message, remedy=remedy, notes=notes)
        self.reason = reason
        self.code = CODES[reason]
        self.near = tuple(near)
        # Of two components that clash, neither is a better suggestion than the other.
        self.suggestion = self.near[0] if self.near and reason != "clash" else None
        self.label = label or did_you_mean(next(iter(self.near), None))

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """The finding, without a place."""
        remedy = (f"help: {self.remedy}",) if self.remedy else ()
        return (
            Diagnostic(
                self.code,
                self.message,
                label=self.label,
                suggestion=toml_text(self.suggestion) if self.suggestion else None,
                notes=(*self.notes, *remedy),
            ),
        )
