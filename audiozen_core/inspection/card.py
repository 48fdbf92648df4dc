"""One component, imported and described: what `audiozen plugins show` prints."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from audiozen_core.binding.arguments import kind_by_base
from audiozen_core.binding.docstrings import parameter_docs
from audiozen_core.binding.messages import type_text
from audiozen_core.binding.signature import UNKNOWN_DEFAULT, signature_of
from audiozen_core.hooks.checks import answered_hooks
from audiozen_core.inspection.snippet import snippet
from audiozen_core.kinds import KINDS
from audiozen_core.registry.index import FIRST_PARTY, Entry, installed_index
from audiozen_core.registry.paths import Resolved, load, resolve


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a component.

    Attributes:
        name: its name.
        type: its annotation as text, "" for none.
        default: the default as Python writes it; None where it has none.
        doc: what the docstring says about it.
        injected: whether AudioZEN gives it.
    """

    name: str
    type: str
    default: str | None
    doc: str
    injected: bool = False

    def __str__(self) -> str:
        text = f"{self.name}: {self.type}" if self.type else self.name
        if self.default is None:
            return text
        return f"{text} = {self.default}" if self.type else f"{text}={self.default}"


@dataclass(frozen=True, slots=True)
class Card:
    """What is known about one component.

    Attributes:
        name: what a TOML says.
        kind: the kind, such as `model`; "" where a dotted path does not tell.
        object: where it lies.
        origin: the distribution with its version; "" for what is not installed under a name.
        first_party: whether it came with AudioZEN.
        arguments: those of its construction, in order.
        open: whether it takes further keywords of which nothing is known.
        doc: the docstring.
        snippet: TOML to paste; "" where the kind is not known.
        hooks: the hooks it answers, in the order of the specs.
        phase: the phase of a hook plugin.
        printed: what it wrote to the standard output while it was imported.
    """

    name: str
    kind: str
    object: str
    origin: str
    first_party: bool
    arguments: tuple[Argument, ...]
    open: bool
    doc: str
    snippet: str
    hooks: tuple[str, ...] = ()
    phase: str = ""
    printed: str = ""

    @property
    def signature(self) -> str:
        """The call with types and defaults, one argument a line where it is long."""
        name = self.object.rpartition(".")[2].rpartition(":")[2]
        parts = [str(argument) for argument in self.arguments] + ["**…"] * self.open
        line = f"{name}({', '.join(parts)})"
        return line if len(line) <= 88 else "\n".join([f"{name}(", *(f"    {part}," for part in parts), ")"])


def describe(path: str, kind: str | None = None) -> Card:
    """Imports one component and describes it.

    Args:
        path: a name, `distribution:name`, or a dotted path.
        kind: the kind, where several have that name.

    Raises:
        PathError: there is none, or several, or it does not import.
    """
    if "." in path and ":" not in path:
        found = resolve(path)
        return _card(found, kind or _kind_by_base(found.target), None)
    entry = installed_index().find(path, kind)
    return _card(load(entry, path=path), entry.kind, entry)


def _card(found: Resolved, kind: str, entry: Entry | None) -> Card:
    target = found.target
    signature = signature_of(target)
    hooks = answered_hooks(target) if isinstance(target, type) else {}
    return Card(
        name=found.path,
        kind=kind,
        object=found.dotted,
        origin=entry.origin if entry else "",
        first_party=entry is not None and entry.distribution == FIRST_PARTY,
        arguments=tuple(_arguments(target, KINDS[kind].injected if kind else ())),
        open=signature is None or signature.open,
        doc=inspect.getdoc(target) or "",
        snippet=snippet(kind, found.path, target) if kind else "",
        hooks=tuple(hooks),
        phase=str(getattr(target, "phase", "")) if hooks else "",
        printed=found.printed,
    )


def _kind_by_base(target: Any) -> str:
    """The kind of a component that has no entry point, by what it is a subclass of."""
    if not isinstance(target, type):
        return ""
    if answered_hooks(target):
        return "hooks"
    kind = kind_by_base(target)
    return kind.name if kind else ""


def _arguments(target: Any, injected: tuple[str, ...]) -> list[Argument]:
    signature = signature_of(target)
    docs = parameter_docs(target)
    return [
        Argument(
            found.name,
            "" if found.annotation is Parameter.empty else type_text(found.annotation),
            _default(found),
            docs.get(found.name, ""),
            found.name in injected,
        )
        for found in (signature.parameters if signature else ())
    ]


def _default(parameter: Parameter) -> str | None:
    if parameter.default is Parameter.empty:
        return None
    if parameter.default is UNKNOWN_DEFAULT:
        return "…"
    try:
        return repr(parameter.default)
    except Exception:  # somebody else's __repr__
        return "…"
