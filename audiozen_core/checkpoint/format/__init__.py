"""The format of a checkpoint on disk."""
