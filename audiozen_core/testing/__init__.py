"""The test kit for plugin authors. `audiozen.testing` has its public names."""
