"""Represents errors as data: findings with positions and codes, and suggestions for mistyped names."""
