"""Networks, and the blocks that they are made of."""

from audiozen_plugins.model.sdnn import SDNN

__all__ = ["SDNN"]
