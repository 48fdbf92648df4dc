"""Reads TOML together with the positions of keys and values, and writes values as TOML."""
