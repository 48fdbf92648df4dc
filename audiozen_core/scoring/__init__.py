"""Builds metrics, applies them to files, and reports the values. The metrics are plugins and are not imported here."""
