"""Networks, and the blocks they are made of."""

from audiozen_plugins.model.sdnn import SDNN

__all__ = ["SDNN"]
