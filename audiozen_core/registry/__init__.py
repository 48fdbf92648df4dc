"""Imports the object that a `path` in a TOML file names."""
