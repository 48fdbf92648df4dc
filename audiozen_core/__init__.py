"""The private implementation of the public package `audiozen`. Its modules may move at any time."""

__version__ = "0.1.0"
"""The version of AudioZEN."""
