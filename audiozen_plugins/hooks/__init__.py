"""The first-party hook plugins, one module each."""
