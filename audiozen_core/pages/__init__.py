"""Self-contained HTML pages. A page is one file with its audio, pictures and scripts, and loads nothing else."""
