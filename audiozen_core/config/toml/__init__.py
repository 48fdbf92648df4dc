"""Reading TOML with the positions of its values, and writing values as TOML."""
