"""From a `path` to the object that it names.

The form of a path alone decides how it is read; what happens to be installed never does:

| form | meaning |
| --- | --- |
| `name` (no dot, no colon) | the installed component of that name in the section's group |
| `distribution:name` | the same, from that distribution |
| `audiozen.x.Y` | `audiozen_core.x.Y`, else `audiozen_plugins.x.Y` |
| `module.attr`, `pkg.module.Class.method` | a dotted import |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from audiozen_core.errors import RegistryError
from audiozen_core.registry.index import Entry, PluginIndex


class PathError(RegistryError):
    """A `path` that leads to no object. The exception of a module that failed to import is its `__cause__`.

    Attributes:
        code: the code of this kind of error, `AZ202` to `AZ209`.
        message: what is wrong, in one line.
        label: what to say at the caret, such as "did you mean `torch.optim.RAdam`?"; may be empty.
        suggestion: the `path` that would be right, if one is known.
        near: all near names, best first.
        notes: further lines, each "kind: text".
        remedy: what to do about it.
    """

    label: str = ""
    suggestion: str | None = None
    near: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a `path` led to.

    Attributes:
        path: the path as it was written.
        target: the object.
        dotted: where it lies: `audiozen_plugins.model.sdnn.SDNN` for the path `sdnn`.
        entry: the installed component, if it was reached by name.
        printed: what was written to the standard output while it was imported (held back from there).
    """

    path: str
    target: Any
    dotted: str
    entry: Entry | None = None
    printed: str = ""


def resolve(path: object, *, section: str | None = None, index: PluginIndex | None = None) -> Resolved:
    """Finds and imports what a path names. Recipe-local modules need an open `ImportScope`.

    Args:
        path: the value of `path` in the TOML, of whatever type it is.
        section: the section of the TOML (`model_g`, `train_dataset`, …), which says where a plain name is looked up;
            None looks in all groups.
        index: the installed components (default: those of this process).

    Raises:
        PathError: the path is malformed or leads to nothing, or its module fails to import.
        AudioZenError: an error of this family that the module itself raised, such as `MissingExtraError`.
    """
    raise NotImplementedError
