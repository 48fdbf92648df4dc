"""Turns numbers, strings and containers into JSON and back, exactly. Values that JSON lacks become marked objects:

    (1, inf)            {"$tuple": [1, {"$float": "inf"}]}
    {0: "a"}            {"$dict": [[0, "a"]]}
    Counter({4: 2})     {"$counter": [[4, 2]]}

The first key of such an object starts with `$`. `state_codec.py` adds tensors and arrays. This module does not
import torch.
"""

from __future__ import annotations

import base64
import math
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Encode = Callable[[Any, "Encoder"], Json]
Decode = Callable[[Any, "Decoder"], Any]


class DecodeError(ValueError):
    """The JSON was not written by `Encoder`; the message says what is wrong."""


class Encoder:
    """Turns a state into JSON. `problems` has the keys of each value that can't be stored, with the reason."""

    def __init__(self, encoders: Mapping[type, Encode] | None = None) -> None:
        self.problems: list[tuple[tuple[Any, ...], str]] = []
        self._encoders = ENCODERS if encoders is None else encoders
        self.keys: list[Any] = []
        self._open: list[int] = []

    def encode(self, value: Any) -> Json:
        """Encodes the value as JSON. If JSON can't store it, returns null and adds the reason to `problems`."""
        kind = type(value)
        if kind in (type(None), bool, int, str):
            return value  # type: ignore[no-any-return]
        encode = self._encoders.get(kind)
        if encode is None:
            return self.add_problem(f"contains {describe_type(value)}")
        if id(value) in self._open:
            return self.add_problem("contains itself")
        self._open.append(id(value))
        try:
            return encode(value, self)
        finally:
            self._open.pop()

    def member(self, key: Any, value: Any) -> Json:
        """Returns one member of a container, as JSON."""
        self.keys.append(key)
        try:
            return self.encode(value)
        finally:
            self.keys.pop()

    def items(self, values: Iterable[Any]) -> list[Json]:
        """Returns the members of a sequence, as JSON."""
        return [self.member(index, value) for index, value in enumerate(values)]

    def pairs(self, table: Mapping[Any, Any]) -> list[Json]:
        """Returns the items of a mapping as a list of pairs, in order."""
        return [[self.encode(key), self.member(key, value)] for key, value in table.items()]

    def add_problem(self, reason: str) -> Json:
        """Records that the value at the current key path can't be stored; returns null."""
        self.problems.append((tuple(self.keys), reason))
        return None


class Decoder:
    """Turns JSON back into values."""

    def __init__(self, decoders: Mapping[str, Decode] | None = None) -> None:
        self.decoders: Mapping[str, Decode] = DECODERS if decoders is None else decoders

    def decode(self, node: Json) -> Any:
        """Decodes a piece of JSON. Raises a `DecodeError` if `Encoder` did not write the JSON."""
        if isinstance(node, list):
            return [self.decode(member) for member in node]
        if not isinstance(node, dict):
            return node
        mark = next(iter(node), "")
        if not mark.startswith("$"):
            return {key: self.decode(value) for key, value in node.items()}
        if mark not in self.decoders:
            raise DecodeError(f"unknown kind of value {mark!r}")
        try:
            return self.decoders[mark](node, self)
        except DecodeError:
            raise
        except (ValueError, TypeError, KeyError, IndexError, OverflowError, RuntimeError) as error:
            raise DecodeError(f"malformed {mark!r}: {error}") from error

    def items(self, members: Any) -> list[Any]:
        """Returns the members of a sequence."""
        if not isinstance(members, list):
            raise DecodeError("a sequence is not a list")
        return [self.decode(member) for member in members]

    def pairs(self, members: Any) -> list[tuple[Any, Any]]:
        """Returns the items of a mapping."""
        return [(key, value) for key, value in self.items(members)]


def describe_type(value: object) -> str:
    """Describes a value for a message: "the function `f`", "an object of `package.Class`"."""
    kind = type(value)
    if callable(value) and hasattr(value, "__qualname__"):
        return f"the {'class' if isinstance(value, type) else 'function'} `{value.__qualname__}`"
    return f"an object of `{kind.__module__}.{kind.__qualname__}`"


def _encode_float(value: float, _: Encoder) -> Json:
    return value if math.isfinite(value) else {"$float": repr(value)}


def _encode_dict(value: dict[Any, Any], encoder: Encoder) -> Json:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: encoder.member(key, member) for key, member in value.items()}
    return {"$dict": encoder.pairs(value)}


def _encode_ordered(value: OrderedDict[Any, Any], encoder: Encoder) -> Json:
    node: dict[str, Json] = {"$ordered": encoder.pairs(value)}
    # `nn.Module.state_dict` stores module versions in this attribute, and `load_state_dict` depends on them.
    for name, attribute in vars(value).items():
        if name == "_metadata":
            node["metadata"] = encoder.member(name, attribute)
        else:
            encoder.add_problem(f"is a dictionary with the attribute `{name}`")
    return node


def _decode_ordered(node: Any, decoder: Decoder) -> OrderedDict[Any, Any]:
    table = OrderedDict(decoder.pairs(node["$ordered"]))
    if "metadata" in node:
        table._metadata = decoder.decode(node["metadata"])  # type: ignore[attr-defined]
    return table


def _encode_set(value: set[Any], encoder: Encoder) -> Json:
    # The members are sorted, because the order of a set differs from process to process.
    return {"$set": sorted((encoder.encode(member) for member in value), key=repr)}


ENCODERS: dict[type, Encode] = {
    float: _encode_float,
    bytes: lambda value, _: {"$bytes": base64.b64encode(value).decode()},
    list: lambda value, encoder: encoder.items(value),
    tuple: lambda value, encoder: {"$tuple": encoder.items(value)},
    set: _encode_set,
    dict: _encode_dict,
    OrderedDict: _encode_ordered,
    # `MultiStepLR` has its milestones in a `Counter`.
    Counter: lambda value, encoder: {"$counter": encoder.pairs(value)},
}
"""How each type is encoded. Subclasses can't be stored, because decoding would lose their type."""

DECODERS: dict[str, Decode] = {
    "$float": lambda node, _: float(node["$float"]),
    "$bytes": lambda node, _: base64.b64decode(node["$bytes"], validate=True),
    "$tuple": lambda node, decoder: tuple(decoder.items(node["$tuple"])),
    "$set": lambda node, decoder: set(decoder.items(node["$set"])),
    "$dict": lambda node, decoder: dict(decoder.pairs(node["$dict"])),
    "$ordered": _decode_ordered,
    "$counter": lambda node, decoder: Counter(dict(decoder.pairs(node["$counter"]))),
}
"""How each object marked with a `$` is decoded."""
