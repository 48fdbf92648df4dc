"""The phases of hook plugins: in which order they are called."""

from __future__ import annotations

from typing import Literal, get_args

Phase = Literal["precision", "gradient", "step", "monitor", "persist"]
"""The phase of a hook plugin."""

PHASES = get_args(Phase)
"""The phases of hook plugins, in the order in which they are called."""

DEFAULT_PHASE = "monitor"
"""The phase of a class that names none."""
