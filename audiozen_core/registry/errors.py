"""The error for a `path` that can't be resolved. `audiozen check` adds the position in the TOML file to its finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from audiozen_core.diagnostics.diagnostic import Diagnostic
from audiozen_core.diagnostics.suggestions import did_you_mean
from audiozen_core.diagnostics.toml_text import toml_text
from audiozen_core.errors import RegistryError


class PathError(RegistryError):
    """A `path` can't be resolved to an object. If the import of a module raised an exception, this is the `__cause__`.

    Args:
        code: the code of the error, from `diagnostics.codes`.
        message: the problem, in one line.
        suggestion: the path that the user probably meant.
        label: the text at the caret; by default "did you mean …?" if there is a suggestion.
        remedy: what the user can do.
        notes: additional lines, each in the form "kind: text".
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        suggestion: str | None = None,
        label: str = "",
        remedy: str = "",
        notes: Sequence[str] = (),
    ) -> None:
        super().__init__(message, remedy=remedy, notes=notes)
        self.code = code
        self.suggestion = suggestion
        self.label = label or did_you_mean(suggestion)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """The finding, without a position."""
        suggestion = toml_text(self.suggestion) if self.suggestion else None
        return tuple(replace(found, label=self.label, suggestion=suggestion) for found in super().diagnostics)
