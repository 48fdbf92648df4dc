"""Finds the scores of systems and compares their configurations, for `audiozen compare`. It does not import torch."""
