"""Reads TOML files into a checked and typed configuration, in which every value has its place in a file."""
