"""Metrics of speech quality, and the report of an evaluation."""

from audiozen._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
