"""Finds the installed components, and imports the object that a `path` in a TOML file names."""
