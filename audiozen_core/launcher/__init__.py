"""Runs on a cluster with Slurm: submitting them, following them, and queueing them again after an interruption."""
