"""Runs of several processes: their ranks, how they agree, and how they are started."""
