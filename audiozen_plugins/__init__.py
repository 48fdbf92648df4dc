"""The first-party components of AudioZEN.

The core never imports this package. Like the components of other plugins, these components are loaded through their
entry points in `pyproject.toml`, or by their dotted paths.
"""
