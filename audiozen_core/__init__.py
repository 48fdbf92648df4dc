"""The framework behind the public package `audiozen`. It is private: modules may move at any time."""

__version__ = "0.1.0"
"""The version of AudioZEN."""
