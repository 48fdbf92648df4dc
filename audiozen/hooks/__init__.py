"""The marker of a hook implementation, and the hooks that come with AudioZEN."""

from audiozen._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
