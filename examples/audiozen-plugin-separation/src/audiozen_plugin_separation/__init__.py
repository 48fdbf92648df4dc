"""Separation of speakers for AudioZEN. Entry points in pyproject.toml give the components their names."""

__version__ = "1.0.0"
