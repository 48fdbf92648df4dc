"""Rates signals: builds metrics, applies them to each file, and reports the values. It does not import the metrics."""
