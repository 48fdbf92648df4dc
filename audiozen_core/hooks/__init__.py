"""The hooks of a run: their specs, the checks of their implementations, and the order of the calls."""
