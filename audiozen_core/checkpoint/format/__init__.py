"""The format of one checkpoint on the disk."""
