"""Submits runs to a Slurm cluster, prints their output, and queues them again after an interruption."""
