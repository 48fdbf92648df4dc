"""The phases of hook plugins, which determine the order of the calls."""

from __future__ import annotations

from typing import Literal, get_args

Phase = Literal["precision", "gradient", "step", "monitor", "persist"]
"""The phase of a hook plugin."""

PHASES = get_args(Phase)
"""All phases, in the order of the calls."""

DEFAULT_PHASE = "monitor"
"""The phase of a class without an attribute `phase`."""
