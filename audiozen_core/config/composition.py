"""The values of an experiment, merged layer by layer, each with its origin."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from audiozen_core.config.renamed_keys import Layer
from audiozen_core.config.toml.document import Document
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Span
from audiozen_core.diagnostics.key_path import KeyPath, spell
from audiozen_core.diagnostics.suggestions import nearest

# Searching for similar names is slow, so it stops once there are more findings than anybody reads.
_MAX_SUGGESTIONS = 100


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was set.

    Attributes:
        document: the file, or the overrides of the command line.
        key: its key path there, as it is written there.
    """

    document: Document
    key: KeyPath

    @property
    def key_span(self) -> Span:
        """The place of the key."""
        return self.document.key_span(self.key)

    @property
    def value_span(self) -> Span:
        """The place of the value."""
        return self.document.value_span(self.key)

    def __str__(self) -> str:
        span = self.key_span
        return f"{span.file}:{span.line}:{span.column}"


@dataclass(slots=True)
class Composition:
    """The merged values of all layers.

    Attributes:
        main: the file that the user named.
        values: the values, in current names.
        origins: the origin of each value, table and array entry: where it was set last.
        replaced: the values that later layers replaced, oldest first, each with its origin.
        unresolved: values with a reference that can't be followed; each has been reported.
        findings: errors and warnings so far.
    """

    main: Document
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)
    replaced: dict[KeyPath, list[tuple[Origin, Any]]] = field(default_factory=dict)
    unresolved: set[KeyPath] = field(default_factory=set)
    findings: list[Diagnostic] = field(default_factory=list)

    # ------------------------------------------------------------------------------------------ asking

    def get(self, key_path: KeyPath) -> Any:
        """The value at a place.

        Raises:
            LookupError: if there is none.
        """
        value: Any = self.values
        for part in key_path:
            if isinstance(part, str) if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int):
                value = value[part]
            else:
                raise KeyError(key_path)
        return value

    def origin(self, key_path: KeyPath) -> Origin:
        """The origin of a value, or of the nearest table above it if it is not set."""
        while key_path and key_path not in self.origins:
            key_path = key_path[:-1]
        return self.origins[key_path] if key_path else Origin(self.main, ())

    def spell(self, key_path: KeyPath) -> str:
        """The key path as written in the document that set it, old names included."""
        origin = self.origins.get(key_path)
        if origin is None and key_path:
            return spell((*self.origin(key_path[:-1]).key, key_path[-1]))
        return spell(origin.key if origin else key_path)

    def nearest(self, name: str, candidates: Iterable[str]) -> str | None:
        """The candidate that is most similar to the name, if any is similar enough."""
        return nearest(name, candidates) if len(self.findings) < _MAX_SUGGESTIONS else None

    def finding(self, code: str, message: str, key_path: KeyPath, **more: Any) -> Diagnostic:
        """A finding at the place where a value was set."""
        return self.placed(Diagnostic(code, message, **more), key_path)

    def placed(self, finding: Diagnostic, key_path: KeyPath) -> Diagnostic:
        """The finding with its place in a file: where the value at its own `place` below `key_path` was set."""
        origin = self.origin((*key_path, *finding.place))
        span = origin.key_span if finding.at == "key" else origin.value_span
        return replace(finding, span=span, source=origin.document.source.line(span.line))

    # ------------------------------------------------------------------------------------------ building

    def merge(self, layer: Layer) -> None:
        """Adds a layer on top: tables are merged, any other value is replaced."""
        self.findings += layer.findings
        self._merge_table(self.values, layer.values, (), layer)

    def put(self, key_path: KeyPath, value: Any, layer: Layer) -> None:
        """Sets one value. Missing tables above it are created, and an index one past the end of an array appends."""
        container: Any = self.values
        for length, part in enumerate(key_path[:-1], start=1):
            if isinstance(container, dict) and part not in container:
                container[part] = {}
                self.origins[key_path[:length]] = Origin(layer.document, layer.written[key_path[:length]])
            container = container[part]
        if isinstance(container, dict):
            self._merge_table(container, {str(key_path[-1]): value}, key_path[:-1], layer)
            return
        index = int(key_path[-1])
        if index < len(container):
            self._replace(container[index], value, key_path, layer)
        container[index : index + 1] = [value]
        self._note_origins(value, key_path, layer)

    def _merge_table(self, table: dict[str, Any], above: dict[str, Any], path: KeyPath, layer: Layer) -> None:
        self._drop_args_of_old_path(table, above, path, layer)
        for key, value in above.items():
            place = (*path, key)
            if isinstance(value, dict) and isinstance(table.get(key), dict):
                self.origins[place] = Origin(layer.document, layer.written[place])
                self._merge_table(table[key], value, place, layer)
                continue
            if key in table:
                self._replace(table[key], value, place, layer)
            table[key] = value
            self._note_origins(value, place, layer)

    def _note_origins(self, value: Any, path: KeyPath, layer: Layer) -> None:
        for place in key_paths_below(value, path):
            self.origins[place] = Origin(layer.document, layer.written[place])

    def _replace(self, old: Any, new: Any, path: KeyPath, layer: Layer) -> None:
        origin = self.origins[path]
        self.replaced.setdefault(path, []).append((origin, old))
        if isinstance(old, dict) != isinstance(new, dict) and not _may_hold_a_table(old) and not _may_hold_a_table(new):
            new_origin = Origin(layer.document, layer.written[path])
            what = ("a table", "a value") if isinstance(old, dict) else ("a value", "a table")
            self.findings.append(
                layer.document.source.finding(
                    config_codes.KIND_CHANGED,
                    f"`{spell(new_origin.key)}` is {what[1]} here and {what[0]} in {origin.key_span.file}",
                    new_origin.key_span,
                    severity="warning",
                    label=f"replaces the whole {what[0].removeprefix('a ')}",
                    notes=(f"replaced: {origin}",),
                )
            )
        self.forget(path, old)

    def _drop_args_of_old_path(self, table: dict[str, Any], above: dict[str, Any], path: KeyPath, layer: Layer) -> None:
        """Drops the inherited arguments where a layer changes `path`: they belong to another component."""
        old, new = table.get("path"), above.get("path")
        args = table.get("args")
        if old is None or new is None or old == new or not isinstance(args, dict):
            return
        own = above.get("args")
        lost = [key for key in args if not (isinstance(own, dict) and key in own)]
        place: KeyPath = (*path, "args")
        origin = self.origins[place]
        self.forget(place, table.pop("args"))
        if lost:
            names = ", ".join(f"`{name}`" for name in lost)
            change = Origin(layer.document, layer.written[(*path, "path")])
            self.findings.append(
                layer.document.source.finding(
                    config_codes.ARGS_DROPPED,
                    f"the inherited arguments {names} of `{old}` are dropped from `{spell(change.key[:-1])}`",
                    change.value_span,
                    severity="warning",
                    label="the path changes here",
                    notes=(f"inherited: {origin}",),
                )
            )

    def forget(self, key_path: KeyPath, value: Any) -> None:
        """Removes the origins of a value and of everything in it."""
        for place in key_paths_below(value, key_path):
            del self.origins[place]


def _may_hold_a_table(value: Any) -> bool:
    """Whether the value may become a table: an array of tables, or a reference."""
    return isinstance(value, list) or (isinstance(value, str) and "${" in value)


def key_paths_below(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """The key paths of a value at `path` and of everything in it."""
    yield path
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from key_paths_below(entry, (*path, key))
    elif isinstance(value, list):
        for index, entry in enumerate(value):
            yield from key_paths_below(entry, (*path, index))
