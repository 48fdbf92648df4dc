"""Scores of files: means with confidence intervals, tables, and comparisons of systems with significance tests."""

from audiozen._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(__name__, __file__)
