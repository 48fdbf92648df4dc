"""Replaces references in values: `${acoustics.sr}`, `${env:DATA_ROOT:-/data}`, `${here}`."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from audiozen_core.config.composition import Composition, key_paths_below, values_below
from audiozen_core.config.renamed_keys import current_path
from audiozen_core.config.schema import KeySchema, key_at, known_keys
from audiozen_core.config.toml.interpolation import Reference, UnclosedReferenceError, split_references
from audiozen_core.config.toml.positions import MAX_DEPTH
from audiozen_core.diagnostics import config_codes
from audiozen_core.diagnostics.key_path import KeyPath, as_index, parse_key_path, spell
from audiozen_core.diagnostics.suggestions import did_you_mean, nearest
from audiozen_core.diagnostics.toml_text import read_scalar, toml_text

_ENVIRONMENT = re.compile(r"env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


def resolve_references(composition: Composition, environment: Mapping[str, str] | None = None) -> None:
    """Replaces every reference with its value. A reference that can't be resolved is reported and left in place."""
    _Resolver(composition, os.environ if environment is None else environment).run()


# Limits for all references of a file together. If each value contains two references to the previous value, the size
# doubles with each value, and thirty values would exhaust the memory. Two references to a list of 100,000 files are
# within the limits.
_MAX_ENTRIES = 250_000
_MAX_CHARACTERS = 10_000_000


class _UnresolvedError(Exception):
    """A reference can't be resolved. The reason has been reported already."""


class _TooLargeError(Exception):
    """The values of the references exceed a size limit. The error has been reported already."""


class _Resolver:
    def __init__(self, composition: Composition, environment: Mapping[str, str]) -> None:
        self.composition = composition
        self.environment = environment
        self.chain: list[KeyPath] = []
        # The size of all resolved references so far: the entries of arrays and tables, and the characters of strings.
        self.entries = 0
        self.characters = 0
        self.pending = dict.fromkeys(
            place for place, value in values_below(composition.values, ()) if isinstance(value, str) and "${" in value
        )

    def run(self) -> None:
        for place in list(self.pending):
            try:
                self.resolve(place)
            except RecursionError:
                # The other values in the chain of references have the same problem, so they are not reported again.
                self.composition.unresolved.update(self.pending)
                self.fail(place, "this chain of references is too long", "${")
                return
            except _TooLargeError:
                self.composition.unresolved.update(self.pending)
                return

    def resolve(self, place: KeyPath) -> None:
        """Replaces the references in one value, unless they have been replaced already."""
        if place not in self.pending or place in self.composition.unresolved:
            return
        text = self.composition.get(place)
        self.chain.append(place)
        try:
            value = self.evaluate(text, place, typed=True)
        except _UnresolvedError:
            self.composition.unresolved.add(place)
            return
        finally:
            self.chain.pop()
        del self.pending[place]
        self.composition.get(place[:-1])[place[-1]] = value

    def evaluate(self, text: str, place: KeyPath, *, typed: bool) -> Any:
        """Replaces the references in `text`, which is the value at `place` or a part of that value.

        The result is a string. If `typed` is True and the text is a single reference, the result keeps the type of the
        referenced value instead.
        """
        try:
            pieces = split_references(text)
        except UnclosedReferenceError:
            label = "write `$${` for a literal `${`"
            raise self.fail(place, "`${` without a closing `}`", text[text.rfind("${") :], label=label) from None
        if typed and len(pieces) == 1 and isinstance(pieces[0], Reference):
            return self.follow(pieces[0], place, typed=True)
        result = []
        for piece in pieces:
            if isinstance(piece, str):
                result.append(piece)
                continue
            value = self.follow(piece, place, typed=False)
            if isinstance(value, dict | list):
                kind = "a table" if isinstance(value, dict) else "an array"
                raise self.fail(place, f"`{piece}` is {kind}, which can't be part of a string", str(piece))
            result.append(value if isinstance(value, str) else toml_text(value))
            self.characters += len(result[-1])
            if self.characters > _MAX_CHARACTERS:
                raise self.too_large(place, piece, f"{_MAX_CHARACTERS:,} characters")
        return "".join(result)

    def follow(self, reference: Reference, place: KeyPath, *, typed: bool) -> Any:
        body = reference.body.strip()
        if body == "here":
            folder = self.composition.origin(place).document.folder
            return os.path.abspath(folder)  # noqa: PTH100 (must not resolve symbolic links)
        if body.startswith("env:"):
            return self.variable(reference, body, place, typed=typed)
        try:
            target = parse_key_path(body)
        except ValueError:
            message = f"`{reference}` is not a reference: the braces must contain a key, `here` or `env:NAME`"
            raise self.fail(place, message, str(reference)) from None
        return self.value(reference, target, place)

    # ------------------------------------------------------------------------------------------ the environment

    def variable(self, reference: Reference, body: str, place: KeyPath, *, typed: bool) -> Any:
        match = _ENVIRONMENT.fullmatch(body)
        if not match:
            message = f"`{reference}` does not name a variable; the form is `${{env:NAME}}` or `${{env:NAME:-default}}`"
            raise self.fail(place, message, str(reference))
        name, default = match["name"], match["default"]
        text = self.environment.get(name, "")
        if text or (default is None and name in self.environment):
            return read_scalar(text) if typed else text
        if default is not None:
            value = self.evaluate(default, place, typed=typed)
            return read_scalar(value) if typed and isinstance(value, str) and "${" not in default else value
        similar = nearest(name, self.environment)
        raise self.fail(
            place,
            f"the environment variable `{name}` is not set",
            str(reference),
            label=did_you_mean(similar),
            notes=(f"help: set {name}, or give a default: `${{env:{name}:-…}}`",),
        )

    # ------------------------------------------------------------------------------------------ other values

    def value(self, reference: Reference, target: KeyPath, place: KeyPath) -> Any:
        """Returns a copy of the value at `target`, with the references in it replaced."""
        found = self.locate(reference, current_path(target), place)
        if isinstance(found, KeySchema):
            return found.default
        value = self.composition.get(found)
        if not isinstance(value, dict | list):
            return value
        for entry in list(key_paths_below(value, found)):
            self.visit(reference, entry, place)
        below = list(key_paths_below(value, ()))[1:]
        if below and len(place) + max(map(len, below)) > MAX_DEPTH:
            raise self.fail(place, f"with `{reference}`, values nest more than {MAX_DEPTH} levels deep", str(reference))
        self.entries += len(below)
        if self.entries > _MAX_ENTRIES:
            raise self.too_large(place, reference, f"{_MAX_ENTRIES:,} entries of arrays and tables")
        origins = self.composition.origins
        for entry in below:
            original, copied = (*found, *entry), (*place, *entry)
            origins[copied] = origins[original]
        return copy.deepcopy(value)

    def locate(self, reference: Reference, target: KeyPath, place: KeyPath) -> KeyPath | KeySchema:
        """Returns the key path of the target, with indices as integers; or its `KeySchema`, if the target only has a
        default.
        """
        found: KeyPath = ()
        for part in target:
            self.visit(reference, found, place)
            table = self.composition.get(found)
            if isinstance(table, list) and (index := as_index(part)) is not None and index < len(table):
                found = (*found, index)
            elif isinstance(table, dict) and str(part) in table:
                found = (*found, str(part))
            else:
                key = key_at(target)
                if key and not key.required and isinstance(key.default, bool | int | float | str):
                    return key
                raise self.missing_target(reference, found, target, place)
        self.visit(reference, found, place)
        return found

    def visit(self, reference: Reference, entry: KeyPath, place: KeyPath) -> None:
        """Replaces the references in an entry before another value uses the entry."""
        if entry in self.composition.unresolved:
            raise _UnresolvedError
        if entry not in self.pending:
            return
        if entry in self.chain:
            cycle = [*self.chain[self.chain.index(entry) :], entry]
            names = " → ".join(f"`{self.composition.spell(link)}`" for link in cycle)
            # Report the cycle once, not once for each value in it.
            self.composition.unresolved.update(cycle)
            raise self.fail(
                place, f"these references form a cycle: {names}", str(reference), code=config_codes.REFERENCE_CYCLE
            )
        self.resolve(entry)
        if entry in self.composition.unresolved:
            raise _UnresolvedError

    def missing_target(self, reference: Reference, found: KeyPath, target: KeyPath, place: KeyPath) -> Exception:
        """Reports that the target does not exist, and suggests a similar name. `found` is the part that exists."""
        table = self.composition.get(found)
        text = str(reference)
        if not isinstance(table, dict | list):
            return self.fail(
                place, f"`{reference}` names a value that does not exist: `{spell(found)}` is not a table", text
            )
        names: Iterable[str] = chain(table, known_keys(found)) if isinstance(table, dict) else ()
        # The misspelt key may be in a known section that the file lacks.
        while len(found) < len(target) - 1 and target[len(found)] in known_keys(found):
            found = target[: len(found) + 1]
            names = known_keys(found)
        similar = nearest(str(target[len(found)]), names)
        suggestion = str(Reference(spell((*found, similar, *target[len(found) + 1 :])))) if similar else None
        message = f"`{reference}` names a value that does not exist"
        label = did_you_mean(suggestion)
        return self.fail(place, message, text, label=label, suggestion=suggestion)

    # ------------------------------------------------------------------------------------------ errors

    def too_large(self, place: KeyPath, reference: Reference, limit: str) -> Exception:
        """Reports that the values of all references in the file exceed a limit."""
        message = f"with `{reference}`, the references of this file expand to more than {limit}"
        notes = ("help: refer to a long value only once; each further reference adds another copy",)
        self.fail(place, message, str(reference), notes=notes)
        return _TooLargeError()

    def fail(
        self, place: KeyPath, message: str, text: str, code: str = config_codes.BAD_REFERENCE, **more: Any
    ) -> Exception:
        """Reports a finding at the reference if the file's text contains it; otherwise, at the whole value."""
        origin = self.composition.origin(place)
        source, (start, end) = origin.document.source, origin.document.value_range(origin.key)
        inside = source.text.find(text, start, end)
        span = source.span(inside, inside + len(text)) if inside >= 0 else source.span(start, end)
        self.composition.findings.append(source.finding(code, message, span, **more))
        return _UnresolvedError()
