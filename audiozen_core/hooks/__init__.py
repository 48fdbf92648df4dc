"""The hooks of a run: their specs, their checks, and the order of the calls."""
