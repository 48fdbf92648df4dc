"""The first-party components of AudioZEN.

The core never imports this package. Like the components of any plugin, each component is loaded through its entry
point in `pyproject.toml`, or by its dotted path.
"""
