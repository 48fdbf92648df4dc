"""Batches of a training that are made again, and training data that is looked at before a training."""
