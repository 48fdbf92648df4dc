"""The first-party trainers, one module each."""
