"""Finds good values for an experiment: `audiozen tune lr` and `audiozen tune batch_size`."""
