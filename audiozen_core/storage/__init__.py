"""Files on the disk: those that appear whole or not at all, and those that grow line by line."""
