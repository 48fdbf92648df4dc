"""What one checkpoint looks like on the disk."""
