"""The distributions that the user has switched off for this process: `--without NAME` and `AUDIOZEN_WITHOUT`.

The option `--without` sets the environment variable, so that child processes use the same plugins.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from audiozen_core.registry.installed import normalised

VARIABLE = "AUDIOZEN_WITHOUT"
"""The environment variable with the names of the distributions, separated by commas."""

HOW_SWITCHED_OFF = f"switched off (by `--without` or {VARIABLE})"
"""The text for messages about a distribution that is switched off."""


def switched_off() -> tuple[str, ...]:
    """Returns the normalised names of the distributions that are switched off, sorted."""
    names = os.environ.get(VARIABLE, "").split(",")
    return tuple(sorted({normalised(name.strip()) for name in names if name.strip()}))


def switch_off(distributions: Sequence[str]) -> Callable[[], None]:
    """Switches off additional distributions. Returns a function that undoes the change."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = ",".join([*switched_off(), *distributions])

    def undo() -> None:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before

    return undo
