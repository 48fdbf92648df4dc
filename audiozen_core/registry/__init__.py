"""From a `path` in a TOML file to a checked, built object."""

from audiozen_core.registry.bind import Problem, build, check_arguments, expected_kind, signature_text
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.index import KINDS, Entry, PluginIndex, installed_index, kind_of
from audiozen_core.registry.resolve import Resolved, load, resolve
from audiozen_core.registry.scope import ImportScope

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
