"""Lets torch be imported although the metadata of a distribution can't be read.

Torch looks for backends, such as those of other accelerators, in the entry points of all distributions, and fails to
import if it can't read those of a single one.
"""

from __future__ import annotations

import os

from audiozen_core.registry.index import PluginIndex

VARIABLE = "TORCH_DEVICE_BACKEND_AUTOLOAD"


def protect_torch(index: PluginIndex) -> None:
    """Keeps torch from looking for backends if it would fail. Call it before the first import of torch."""
    if index.problems:
        os.environ.setdefault(VARIABLE, "0")
