"""Scores of files: means with intervals, tables, and the files that `audiozen evaluate` writes."""

from audiozen._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
