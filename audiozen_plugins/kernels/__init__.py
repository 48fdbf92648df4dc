"""Kernels: a computation that is fused into one loop, with a plain form in PyTorch that gives the same values."""
