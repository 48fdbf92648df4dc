"""One hook plugin of a run."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from audiozen_core.diagnostics.suggestions import is_slip
from audiozen_core.hooks.phases import DEFAULT_PHASE
from audiozen_core.registry.index import installed_index


@dataclass(frozen=True, slots=True)
class Plugin:
    """One object whose methods implement hooks.

    Attributes:
        name: unique in the run.
        instance: the object.
        origin: what enabled the plugin, for messages, such as `default` or `baseline.toml:31`.
        distribution: the installed distribution that it belongs to; "" for a local plugin.
        path: the `path` in the TOML file, which several plugins may share (default: the name).
    """

    name: str
    instance: Any
    origin: str = "default"
    distribution: str = ""
    path: str = ""

    @property
    def phase(self) -> str:
        """The phase in which the plugin runs."""
        phase: str = getattr(self.instance, "phase", DEFAULT_PHASE)
        return phase

    @property
    def affects_training(self) -> bool:
        """Whether a training without the plugin could have another result; true unless its class says otherwise."""
        return bool(getattr(self.instance, "affects_training", True))

    @property
    def before(self) -> tuple[str, ...]:
        """The names of the plugins that run after this one."""
        return names(getattr(self.instance, "before", ()))

    @property
    def after(self) -> tuple[str, ...]:
        """The names of the plugins that run before this one."""
        return names(getattr(self.instance, "after", ()))

    @property
    def owner(self) -> str:
        """The source of the code: the distribution, or the module that a dotted path names."""
        return self.distribution or type(self.instance).__module__

    def is_called(self, name: str) -> bool:
        """Returns whether a name in `before` or `after` of another plugin means this plugin.

        >>> ema = Plugin("acme:ema_2", object(), distribution="acme", path="acme:ema")
        >>> [ema.is_called(name) for name in ("ema", "acme:ema", "acme:ema_2", "other:ema")]
        [True, True, True, False]
        """
        path = self.path or self.name
        bare = path.rpartition(":")[2]
        return name in (self.name, path, bare, f"{self.distribution}:{bare}")

    def __str__(self) -> str:
        owner = f" of {self.distribution}" if self.distribution else ""
        return f"hook plugin `{self.name}`{owner} ({self.origin})"


def names(value: str | tuple[str, ...]) -> tuple[str, ...]:
    """Returns the names in an attribute `before` or `after`, which may be one name."""
    return (value,) if isinstance(value, str) else tuple(value)


def meant_plugin(name: str, present: Collection[str] = ()) -> str | None:
    """Returns the correct name for a name in `before` or `after` that is probably misspelt.

    Returns None if a plugin has the name, also one that is switched off. Returns None, too, if no name is spelt almost
    the same, because a plugin of this name may not be installed.

    Args:
        name: the name.
        present: the names of the plugins of the run.

    >>> [meant_plugin(name) for name in ("amp", "amp_2", "tensorbord", "audiozen:apm", "other:amp", "ema", "amp2")]
    [None, None, 'tensorboard', 'audiozen:amp', None, None, None]
    """
    index = installed_index()
    hooks = [entry for entry in (*index, *index.off) if entry.kind == "hooks"]
    known = {*present, *(entry.name for entry in hooks), *(entry.spelling for entry in hooks)}
    # The second use of a hook in a run is called `ema_2`.
    if name in known or re.sub(r"_\d+$", "", name) in known:
        return None
    # In a name of two parts, such as `acme:ema` or `hooks.Ema`, only one of them is misspelt.
    owner, own = _parts(name)
    split = [_parts(other) for other in sorted(known)]
    names = [owner + other for its_owner, other in split if its_owner == owner and is_slip(own, other)]
    owners = [its_owner + own for its_owner, other in split if other == own and is_slip(owner, its_owner)]
    return next(iter([*names, *owners]), None)


def _parts(name: str) -> tuple[str, str]:
    """Returns the distribution or the module of a name with its separator, and the rest: `acme:` and `ema`."""
    own = re.split("[:.]", name)[-1]
    return name.removesuffix(own), own
