"""Finds run folders, and reads their states and results. This package does not import torch."""
