"""AudioZEN: one TOML file is one experiment.

Users and plugin authors import from this package. A name has the same spelling in Python and as a `path` in a TOML
file: `audiozen.loss.SoftDTWLoss`. Importing the package does not import torch; each name is imported when it is first
used.

The packages `audiozen_core` and `audiozen_plugins` are private: their modules may move at any time.
"""

from audiozen._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
