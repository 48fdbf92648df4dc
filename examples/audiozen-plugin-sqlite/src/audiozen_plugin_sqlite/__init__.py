"""A tracker in SQLite and a command that prints its runs, for AudioZEN. Entry points give them their names."""

__version__ = "1.0.0"
