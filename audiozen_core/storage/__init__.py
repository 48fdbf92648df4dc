"""Writes files: some appear completely or not at all, others grow line by line."""
