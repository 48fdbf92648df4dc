"""The first-party components of AudioZEN.

The core never imports this package: like everybody else's, each part is reached through its entry point in
``pyproject.toml``, or by its dotted path.
"""
