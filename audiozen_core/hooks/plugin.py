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
        name: the name of the plugin, which is unique in the run.
        instance: the object whose methods implement hooks.
        origin: where the plugin was enabled, for messages, such as `default` or `baseline.toml:31`.
        distribution: the installed distribution that the plugin belongs to; "" for a local plugin.
        path: the `path` in the TOML file, which several plugins may share; by default, the name.
        checked: whether `audiozen check` has found no mistakes in the class, so that a run need not check it again.
    """

    name: str
    instance: Any
    origin: str = "default"
    distribution: str = ""
    path: str = ""
    checked: bool = False

    @property
    def phase(self) -> str:
        """The phase in which the plugin runs."""
        phase: str = getattr(self.instance, "phase", DEFAULT_PHASE)
        return phase

    @property
    def affects_training(self) -> bool:
        """Whether the result of training may depend on the plugin. The default is True."""
        return bool(getattr(self.instance, "affects_training", True))

    @property
    def before(self) -> tuple[str, ...]:
        """The names of the plugins that this plugin must run before."""
        return names(getattr(self.instance, "before", ()))

    @property
    def after(self) -> tuple[str, ...]:
        """The names of the plugins that this plugin must run after."""
        return names(getattr(self.instance, "after", ()))

    @property
    def owner(self) -> str:
        """The distribution of the plugin, or its module if it does not belong to an installed distribution."""
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
    """Returns the names in an attribute `before` or `after`. The attribute may be a tuple or a single name."""
    return (value,) if isinstance(value, str) else tuple(value)


def meant_plugin(name: str, present: Collection[str] = ()) -> str | None:
    """Returns the correct name for a name in `before` or `after` that is probably misspelt.

    Returns None if an installed plugin has the name, even if the plugin is switched off. Also returns None if no known
    name is similar, because the name may belong to a plugin that is not installed.

    Args:
        name: a name in `before` or `after`.
        present: the names of the plugins of the run.

    >>> [meant_plugin(name) for name in ("amp", "amp_2", "tensorbord", "audiozen:apm", "other:amp", "ema", "amp2")]
    [None, None, 'tensorboard', 'audiozen:amp', None, None, None]
    """
    index = installed_index()
    hooks = [entry for entry in (*index, *index.off) if entry.kind == "hooks"]
    known = {*present, *(entry.name for entry in hooks), *(entry.spelling for entry in hooks)}
    # If a run uses a hook plugin twice, the second is called `ema_2`.
    if name in known or re.sub(r"_\d+$", "", name) in known:
        return None
    # If a name has two parts, such as `acme:ema` or `hooks.Ema`, only one part is assumed to be misspelt.
    prefix, last = _parts(name)
    split = [_parts(other) for other in sorted(known)]
    names = [prefix + other for other_prefix, other in split if other_prefix == prefix and is_slip(last, other)]
    owners = [other_prefix + last for other_prefix, other in split if other == last and is_slip(prefix, other_prefix)]
    return next(iter([*names, *owners]), None)


def _parts(name: str) -> tuple[str, str]:
    """Splits a name after its distribution or module, such as `acme:ema` into `acme:` and `ema`."""
    last = re.split("[:.]", name)[-1]
    return name.removesuffix(last), last
