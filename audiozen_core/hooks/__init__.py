"""The hooks of a run: their specs, their checks, and the order in which they are called."""
