"""Metrics of speech quality."""
