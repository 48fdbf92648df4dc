"""One experiment: what a TOML file says, built and run."""
