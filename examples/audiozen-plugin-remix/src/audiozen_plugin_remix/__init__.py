"""A trainer, a loss, a model and a hook for AudioZEN. Entry points in pyproject.toml give them their names."""

__version__ = "1.0.0"
