"""HTML pages of one file each: they hold their audio, pictures and scripts, and load nothing from anywhere."""
