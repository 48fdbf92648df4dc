"""Several processes that work on one run: who they are, how they agree, and how they are started."""
