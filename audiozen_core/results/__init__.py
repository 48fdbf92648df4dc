"""Scores of files: their file formats, means with intervals, and tables. Nothing here imports torch."""
