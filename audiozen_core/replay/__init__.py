"""Recreates batches and steps of a run, and previews training data before a run."""
