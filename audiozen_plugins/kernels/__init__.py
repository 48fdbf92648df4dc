"""Kernels: computations that are fused into one loop. Each has a plain form in PyTorch that gives the same values."""
