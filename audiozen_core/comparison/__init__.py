"""`audiozen compare`: finds the scores of systems, and what differs in their configurations. No torch."""
