"""Describes errors as data: findings with their places and codes, and suggestions for mistyped names."""
