"""Lets torch be imported even if the metadata of a distribution can't be read.

Torch looks for backends for other accelerators in the entry points of all distributions. If torch can't read the entry
points of a distribution, `import torch` fails.
"""

from __future__ import annotations

import os

from audiozen_core.registry.index import PluginIndex

VARIABLE = "TORCH_DEVICE_BACKEND_AUTOLOAD"


def protect_torch(index: PluginIndex) -> None:
    """Prevents torch from looking for backends if the search would fail. Call it before the first import of torch."""
    if index.problems:
        os.environ.setdefault(VARIABLE, "0")
