"""Learning-rate schedulers that begin with a warm-up."""
