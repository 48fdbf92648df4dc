"""The hooks of a run: specs, checks of the implementations, and the order in which hook plugins are called."""
