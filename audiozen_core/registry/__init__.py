"""From a `path` in a TOML file to the object that it names."""
