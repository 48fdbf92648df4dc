"""The cache folder. Everything in it can be computed again."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache() -> Path:
    """Returns the folder of the cache: `audiozen` in `$XDG_CACHE_HOME`, or in `~/.cache` if the variable is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "audiozen"
