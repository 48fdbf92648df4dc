"""Writes files completely or not at all, or line by line."""
