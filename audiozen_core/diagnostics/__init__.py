"""Describes errors as data: findings with their positions and codes, and suggestions for mistyped names."""
