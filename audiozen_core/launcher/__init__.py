"""Submits runs to a Slurm cluster, follows them, and queues them again after an interruption."""
