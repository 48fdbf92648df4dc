"""Reads TOML files into a checked and typed configuration, in which every value has its position in a file."""
