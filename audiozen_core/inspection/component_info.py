"""Imports one component and describes it, for `audiozen plugins show`."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from inspect import Parameter
from typing import Any

from audiozen_core.binding.arguments import kind_by_base
from audiozen_core.binding.docstrings import parameter_docs
from audiozen_core.binding.messages import type_text
from audiozen_core.binding.signature import default_text, signature_of
from audiozen_core.hooks.checks import implemented_hooks
from audiozen_core.inspection.model_size import ModelSize, model_size
from audiozen_core.inspection.snippet import snippet
from audiozen_core.kinds import KINDS
from audiozen_core.registry.entry import FIRST_PARTY, Entry
from audiozen_core.registry.index import installed_index
from audiozen_core.registry.paths import Resolved, load_entry, resolve


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a component.

    Attributes:
        name: the name of the argument.
        type: the type, as text; "" if it is unknown.
        default: the default, as text; None if the argument is required.
        doc: the description in the docstring; "" if there is no description.
        injected: whether AudioZEN passes the argument.
    """

    name: str
    type: str
    default: str | None
    doc: str
    injected: bool

    def __str__(self) -> str:
        text = f"{self.name}: {self.type}" if self.type else self.name
        if self.default is None:
            return text
        return f"{text} = {self.default}" if self.type else f"{text}={self.default}"


@dataclass(frozen=True, slots=True)
class ComponentInfo:
    """Information about one component.

    Attributes:
        name: the `path` in a TOML file.
        kind: the kind, such as `model`; "" for a dotted path if the kind is unknown.
        import_path: the dotted path of the object, such as `audiozen_plugins.model.sdnn.SDNN`.
        origin: the distribution with its version; "" for a dotted path.
        first_party: whether the component is part of AudioZEN.
        arguments: the arguments of the constructor, in order.
        takes_more: whether the constructor takes further keywords whose names are unknown.
        doc: the docstring.
        snippet: TOML to paste; "" if the kind is unknown.
        hooks: the hooks that the component implements, in the order of the specs.
        phase: the phase of a hook plugin; "" for other components.
        size: the size of a model; None for other components.
        printed: the text that the import of the component wrote to the standard output.
    """

    name: str
    kind: str
    import_path: str
    origin: str
    first_party: bool
    arguments: tuple[Argument, ...]
    takes_more: bool
    doc: str
    snippet: str
    hooks: tuple[str, ...]
    phase: str
    size: ModelSize | None
    printed: str

    @property
    def signature(self) -> str:
        """The call with types and defaults, in one line. A long call has one line for each argument."""
        name = self.import_path.rpartition(".")[2].rpartition(":")[2]
        parts = [str(argument) for argument in self.arguments] + ["**…"] * self.takes_more
        line = f"{name}({', '.join(parts)})"
        return line if len(line) <= 88 else "\n".join([f"{name}(", *(f"    {part}," for part in parts), ")"])


def component_info(path: str, kind: str | None = None) -> ComponentInfo:
    """Imports one component and describes it.

    Args:
        path: the name of the component, or its dotted path.
        kind: the kind of the component. It is needed if components of several kinds have the same name.

    Raises:
        PathError: the component does not exist or can't be imported, or several components have this name.
    """
    if "." in path and ":" not in path:
        resolved = resolve(path)
        return _info_of(resolved, kind or _guess_kind(resolved.target), None)
    entry = installed_index().find(path, kind)
    return _info_of(load_entry(entry, path=path), entry.kind, entry)


def _info_of(resolved: Resolved, kind: str, entry: Entry | None) -> ComponentInfo:
    target = resolved.target
    signature = signature_of(target)
    hooks = implemented_hooks(target) if isinstance(target, type) else {}
    return ComponentInfo(
        name=resolved.path,
        kind=kind,
        import_path=resolved.dotted,
        origin=entry.origin if entry else "",
        first_party=entry is not None and entry.distribution == FIRST_PARTY,
        arguments=tuple(_arguments(target, KINDS[kind].injected if kind else ())),
        takes_more=signature is None or signature.open,
        doc=inspect.getdoc(target) or "",
        snippet=snippet(kind, resolved.path, target) if kind else "",
        hooks=tuple(hooks),
        phase=str(getattr(target, "phase", "")) if hooks else "",
        size=model_size(target) if kind == "model" else None,
        printed=resolved.printed,
    )


def _guess_kind(target: Any) -> str:
    """Returns the kind of a class without an entry point: `hooks` if it has hooks, or its base class's kind."""
    if not isinstance(target, type):
        return ""
    if implemented_hooks(target):
        return "hooks"
    kind = kind_by_base(target)
    return kind.name if kind else ""


def _arguments(target: Any, injected: tuple[str, ...]) -> list[Argument]:
    signature = signature_of(target)
    docs = parameter_docs(target)
    return [
        Argument(
            parameter.name,
            "" if parameter.annotation is Parameter.empty else type_text(parameter.annotation),
            None if parameter.default is Parameter.empty else default_text(parameter.default),
            docs.get(parameter.name, ""),
            parameter.name in injected,
        )
        for parameter in (signature.parameters if signature else ())
    ]
