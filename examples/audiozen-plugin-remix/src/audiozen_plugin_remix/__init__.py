"""A trainer, a loss, a model and a hook for AudioZEN, reached by name through their entry points."""

__version__ = "1.0.0"
