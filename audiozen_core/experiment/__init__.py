"""Builds and runs the experiment that a TOML file describes."""
