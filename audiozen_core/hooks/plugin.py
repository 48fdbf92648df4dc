"""One hook plugin of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from audiozen_core.hooks import specs


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
        phase: str = getattr(self.instance, "phase", specs.DEFAULT_PHASE)
        return phase

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
        """Returns whether `before` and `after` of other plugins may call the plugin so.

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
