"""From TOML text to a checked, composed, typed configuration in which every value knows its place."""
