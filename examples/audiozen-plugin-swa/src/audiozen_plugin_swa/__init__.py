"""An exponential moving average of the weights, for AudioZEN. An entry point in pyproject.toml gives it its name."""

__version__ = "1.0.0"
