"""TOML text: values with their positions, and values as text."""
