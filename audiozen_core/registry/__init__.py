"""From a `path` in a TOML file to a checked, built object.

The names below are imported when they are first asked for: listing what is installed must not pay for the rest.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audiozen_core.binding.arguments import build, check_arguments, expected_kind, signature_text
    from audiozen_core.binding.problem import Problem
    from audiozen_core.registry.errors import PathError
    from audiozen_core.registry.index import KINDS, Entry, PluginIndex, installed_index, kind_of
    from audiozen_core.registry.paths import Resolved, load, resolve
    from audiozen_core.registry.scope import ImportScope

_HOMES = {
    "bind": ("build", "check_arguments", "expected_kind", "signature_text"),
    "errors": ("PathError",),
    "index": ("KINDS", "Entry", "PluginIndex", "installed_index", "kind_of"),
    "problem": ("Problem",),
    "paths": ("Resolved", "load", "resolve"),
    "scope": ("ImportScope",),
}

__all__ = [
    "KINDS",
    "Entry",
    "ImportScope",
    "PathError",
    "PluginIndex",
    "Problem",
    "Resolved",
    "build",
    "check_arguments",
    "expected_kind",
    "installed_index",
    "kind_of",
    "load",
    "resolve",
    "signature_text",
]


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
