"""Checks arguments against signatures, and values against types, without calling anything."""
