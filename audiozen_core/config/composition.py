"""The values of an experiment, merged layer by layer, each with its origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from audiozen_core.config.renamed_keys import SECTION_ALIASES, current_name
from audiozen_core.config.toml.document import Document
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.diagnostic import Diagnostic, Span
from audiozen_core.diagnostics.key_path import KeyPath, as_index, spell
from audiozen_core.diagnostics.toml_text import toml_text


@dataclass(frozen=True, slots=True)
class Origin:
    """The origin of a value: the document that sets it, and the key path as written in this document."""

    document: Document
    key: KeyPath

    @property
    def key_span(self) -> Span:
        """The position of the key."""
        return self.document.key_span(self.key)

    @property
    def value_span(self) -> Span:
        """The position of the value."""
        return self.document.value_span(self.key)

    def __str__(self) -> str:
        span = self.key_span
        return f"{span.file}:{span.line}:{span.column}"


@dataclass(slots=True)
class Composition:
    """The merged values of all layers.

    Attributes:
        main: the file that the user named.
        values: the values, under the current names of their keys.
        origins: the origin of each value, table and array entry: where it was last set.
        replaced: the values that later layers replaced, oldest first, each with its origin.
        unresolved: the key paths of values whose references can't be resolved. Errors about these values have been
            reported.
        findings: the errors and warnings found so far.
    """

    main: Document
    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, Origin] = field(default_factory=dict)
    replaced: dict[KeyPath, list[tuple[Origin, Any]]] = field(default_factory=dict)
    unresolved: set[KeyPath] = field(default_factory=set)
    findings: list[Diagnostic] = field(default_factory=list)

    # ------------------------------------------------------------------------------------------ queries

    def get(self, key_path: KeyPath) -> Any:
        """Returns the value at a key path.

        Raises:
            LookupError: the value is not set.
        """
        value: Any = self.values
        for part in key_path:
            if isinstance(part, str) if isinstance(value, dict) else isinstance(value, list) and isinstance(part, int):
                value = value[part]
            else:
                raise KeyError(key_path)
        return value

    def with_indices(self, key_path: KeyPath) -> KeyPath:
        """Returns the key path with each index as an integer, because users may write `dataset.1` for `dataset[1]`."""
        found: KeyPath = ()
        value: Any = self.values
        for part in key_path:
            index = as_index(part) if isinstance(value, list) else None
            found = (*found, part if index is None else index)
            try:
                value = value[found[-1]]
            except (LookupError, TypeError):
                value = None
        return found

    def origin(self, key_path: KeyPath) -> Origin:
        """Returns the origin of a value. If the value is not set, returns the origin of the nearest table above it."""
        while key_path and key_path not in self.origins:
            key_path = key_path[:-1]
        return self.origins[key_path] if key_path else Origin(self.main, ())

    def spell(self, key_path: KeyPath) -> str:
        """Returns the key path as it is written in the document that set the value, which may use old names."""
        length = next((length for length in range(len(key_path), 0, -1) if key_path[:length] in self.origins), 0)
        above = self.origins[key_path[:length]].key if length else ()
        return spell((*above, *key_path[length:]))

    def finding(self, code: str, message: str, key_path: KeyPath, **more: Any) -> Diagnostic:
        """Returns a finding at the position where a value was set."""
        return self.placed(Diagnostic(code, message, **more), key_path)

    def placed(self, finding: Diagnostic, key_path: KeyPath) -> Diagnostic:
        """Returns the finding with its position in a file. The finding's `place` is relative to `key_path`."""
        return _at(finding, self.origin((*key_path, *finding.place)))

    # ------------------------------------------------------------------------------------------ changes

    def merge(self, document: Document) -> None:
        """Adds a file as the top layer. Tables are merged, but any other value replaces the value from lower layers."""
        values = {key: value for key, value in document.values.items() if key != "extends"}
        self._merge_table(self.values, values, (), Origin(document, ()))

    def set_value(self, key_path: KeyPath, value: Any, origin: Origin) -> None:
        """Sets one value and creates missing tables above it. An index one past the end of an array appends an entry.

        `origin.key` is the key path as the user wrote it, which may use old names. It is as long as `key_path`.
        """
        container: Any = self.values
        for length, part in enumerate(key_path[:-1], start=1):
            above = Origin(origin.document, origin.key[:length])
            self._warn_of_old_name(part, above)
            if isinstance(container, dict) and part not in container:
                container[part] = {}
                self.origins[key_path[:length]] = above
            container = container[part]
        parent = Origin(origin.document, origin.key[:-1])
        if isinstance(container, dict):
            self._merge_table(container, {str(origin.key[-1]): value}, key_path[:-1], parent)
        else:
            self._set(container, int(key_path[-1]), value, key_path, origin)

    def drop_old_setting(self, key_path: KeyPath, advice: str) -> Diagnostic:
        """Removes a value that only older versions used. Returns a warning about the removed value."""
        origin, value = self.origins[key_path], self.get(key_path[:-1]).pop(key_path[-1])
        self._forget(key_path, value)
        message = f"`{origin.key[-1]} = {toml_text(value)}` is an old setting and is ignored"
        finding = Diagnostic(config_codes.OLD_SPELLING, message, severity="warning", at="key", label=advice)
        return _at(finding, origin)

    def _merge_table(self, table: dict[str, Any], above: Mapping[str, Any], path: KeyPath, origin: Origin) -> None:
        self._drop_args_of_old_path(table, above, path, origin)
        written: dict[str, Origin] = {}
        for key, value in above.items():
            name = current_name(path, key)
            below = Origin(origin.document, (*origin.key, key))
            self._warn_of_old_name(name, below)
            if name in written:
                self._refuse_second_name(below, written[name])
            else:
                written[name] = below
                self._set(table, name, value, (*path, name), below)

    def _set(self, container: Any, key: Any, value: Any, place: KeyPath, origin: Origin) -> None:
        """Merges a table into the existing table, or replaces any other value. Tables and arrays are copied."""
        old = container[key] if place in self.origins else None
        merged = isinstance(value, dict) and isinstance(old, dict)
        if place in self.origins and not merged:
            self._replace(old, value, place, origin)
        self.origins[place] = origin
        if isinstance(value, dict):
            new: Any = old if merged else {}
            self._merge_table(new, value, place, origin)
        elif isinstance(value, list):
            new = []
            for index, entry in enumerate(value):
                self._set(new, index, entry, (*place, index), Origin(origin.document, (*origin.key, index)))
        else:
            new = value
        if isinstance(container, list):
            container[key : key + 1] = [new]
        else:
            container[key] = new

    def _replace(self, old: Any, new: Any, path: KeyPath, origin: Origin) -> None:
        before = self.origins[path]
        self.replaced.setdefault(path, []).append((before, old))
        if isinstance(old, dict) != isinstance(new, dict) and not _may_hold_a_table(old) and not _may_hold_a_table(new):
            what = ("a table", "a value") if isinstance(old, dict) else ("a value", "a table")
            self._warn(
                config_codes.KIND_CHANGED,
                f"`{spell(origin.key)}` is {what[1]} here and {what[0]} in {before.key_span.file}",
                origin,
                label=f"replaces the whole {what[0].removeprefix('a ')}",
                notes=(f"replaced: {before}",),
            )
        if path == ("hooks",) and isinstance(old, list) and isinstance(new, list):
            self._warn_of_dropped_hooks(old, new, before, origin)
        self._forget(path, old)

    def _warn_of_dropped_hooks(self, old: list[Any], new: list[Any], before: Origin, origin: Origin) -> None:
        kept = {hook.get("path") for hook in new if isinstance(hook, dict)}
        dropped = [hook["path"] for hook in old if isinstance(hook, dict) and hook.get("path", None) not in kept]
        if dropped:
            names = ", ".join(f"`{path}`" for path in dropped)
            self._warn(
                config_codes.HOOKS_REPLACED,
                f"these hooks replace the hooks of {before.key_span.file} and leave out {names}",
                origin,
                label="repeat the hooks that you want to keep",
                notes=(f"replaced: {before}",),
            )

    def _drop_args_of_old_path(
        self, table: dict[str, Any], above: Mapping[str, Any], path: KeyPath, origin: Origin
    ) -> None:
        """Drops the arguments of lower layers if this layer changes `path`: they belong to the old component."""
        old, new, args = table.get("path"), above.get("path"), table.get("args")
        if old is None or new is None or old == new or not isinstance(args, dict):
            return
        place: KeyPath = (*path, "args")
        inherited = self.origins[place]
        self._forget(place, table.pop("args"))
        new_args = above.get("args")
        kept = {current_name(place, key) for key in new_args} if isinstance(new_args, dict) else set()
        if lost := [key for key in args if key not in kept]:
            names = ", ".join(f"`{name}`" for name in lost)
            self._warn(
                config_codes.ARGS_DROPPED,
                f"the inherited arguments {names} of `{old}` are dropped from `{spell(origin.key)}`",
                Origin(origin.document, (*origin.key, "path")),
                at="value",
                label="the path changes here",
                notes=(f"inherited: {inherited}",),
            )

    def _warn_of_old_name(self, name: str | int, origin: Origin) -> None:
        old = origin.key[-1]
        if isinstance(name, str) and old not in (name, *SECTION_ALIASES):
            message = f"`{old}` is the old name of `{name}`"
            self._warn(config_codes.OLD_SPELLING, message, origin, label=f"write `{name}`", suggestion=name)

    def _refuse_second_name(self, origin: Origin, first: Origin) -> None:
        message = f"`{spell(origin.key)}` and `{spell(first.key)}` are two names of the same key"
        finding = Diagnostic(
            config_codes.TWO_SPELLINGS, message, at="key", label="keep one of them", notes=(f"first: {first}",)
        )
        self.findings.append(_at(finding, origin))

    def _warn(self, code: str, message: str, origin: Origin, at: Literal["key", "value"] = "key", **more: Any) -> None:
        self.findings.append(_at(Diagnostic(code, message, severity="warning", at=at, **more), origin))

    def _forget(self, key_path: KeyPath, value: Any) -> None:
        """Removes the origins of a value and of everything in it."""
        for place in key_paths_below(value, key_path):
            del self.origins[place]


def _at(finding: Diagnostic, origin: Origin) -> Diagnostic:
    """Returns the finding with the position of a key or value in its file."""
    span = origin.key_span if finding.at == "key" else origin.value_span
    return replace(finding, span=span, source=origin.document.source.line(span.line))


def _may_hold_a_table(value: Any) -> bool:
    """Returns whether the value may contain a table: it is an array, or has a reference, which may name a table."""
    return isinstance(value, list) or (isinstance(value, str) and "${" in value)


def key_paths_below(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    """Yields the key paths of a value at `path` and of everything in it."""
    return (place for place, _ in values_below(value, path))


def values_below(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """Yields a value at `path` and everything in it, each with its key path."""
    yield path, value
    if isinstance(value, dict | list):
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(entry, dict | list):
                yield from values_below(entry, (*path, key))
            else:
                yield (*path, key), entry
