"""`audiozen report`: writes a self-contained HTML page about runs."""
