"""The marker `hookimpl`, the types that hooks use, and the hook plugins that come with AudioZEN."""

from audiozen._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
