"""Plain Python values <-> JSON, exactly. What JSON can't express becomes an object whose first key starts with `$`.

    (1, inf)            {"$tuple": [1, {"$float": "inf"}]}
    {0: "a"}            {"$dict": [[0, "a"]]}
    Counter({4: 2})     {"$counter": [[4, 2]]}

`state_codec.py` adds tensors and arrays. Imports no torch.
"""

from __future__ import annotations

import base64
import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PosixPath, WindowsPath
from typing import Any

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Encode = Callable[[Any, "Encoder"], Json]
Decode = Callable[[Any, "Decoder"], Any]

MAX_DEPTH = 100
_MAX_BITS = 8192
_FACTORIES: dict[str, Callable[[], Any] | None] = {
    "none": None, "dict": dict, "list": list, "set": set, "int": int, "float": float, "str": str, "tuple": tuple,
}  # fmt: skip


class DecodeError(ValueError):
    """The JSON was not written by `Encoder`; the text says why."""


class Encoder:
    """Turns values into JSON, and collects those that it can't turn.

    Args:
        owner: whose state the value is; every key path starts with it.
        encoders: how each type is encoded.

    Attributes:
        problems: "`key path` reason" for each value that can't be stored.
        attachments: what is stored outside the JSON: a name made from its key path, the value, and the JSON object that
            stands for it.
    """

    def __init__(self, owner: str, encoders: Mapping[type, Encode] | None = None) -> None:
        self.problems: list[str] = []
        self.attachments: list[tuple[str, Any, dict[str, Json]]] = []
        self._encoders = ENCODERS if encoders is None else encoders
        self._owner = owner
        self._keys: list[Any] = []
        self._open: list[int] = []
        self._names = {"__metadata__"}

    def encode(self, value: Any) -> Json:
        """The value as JSON; null where it can't be stored, which `problems` then says."""
        kind = type(value)
        if kind in (type(None), bool, str):
            return value  # type: ignore[no-any-return]
        encode = self._encoders.get(kind)
        if encode is None:
            return self.refuse(f"holds {describe_type(value)}")
        if id(value) in self._open:
            return self.refuse("contains itself")
        if len(self._open) >= MAX_DEPTH:
            return self.refuse(f"is nested deeper than {MAX_DEPTH} levels")
        self._open.append(id(value))
        try:
            return encode(value, self)
        finally:
            self._open.pop()

    def member(self, key: Any, value: Any) -> Json:
        """One member of a container, as JSON."""
        self._keys.append(key)
        try:
            return self.encode(value)
        finally:
            self._keys.pop()

    def items(self, values: Iterable[Any]) -> list[Json]:
        """The members of a sequence, as JSON."""
        return [self.member(index, value) for index, value in enumerate(values)]

    def pairs(self, table: Mapping[Any, Any]) -> list[Json]:
        """The items of a mapping as a list of pairs, in order."""
        return [[self.encode(key), self.member(key, value)] for key, value in table.items()]

    def refuse(self, reason: str) -> Json:
        """Records that the value at the current key path can't be stored; returns null."""
        path = self._owner + "".join(f"[{key!r}]" for key in self._keys)
        self.problems.append(f"`{path}` {reason}")
        return None

    def attach(self, value: Any, node: dict[str, Json]) -> Json:
        """Stores a value outside the JSON, in which `node` stands for it."""
        plain = name = ".".join(map(str, self._keys)) or "~"
        count = 1
        while name in self._names:
            count += 1
            name = f"{plain}~{count}"
        self._names.add(name)
        self.attachments.append((name, value, node))
        return node


class Decoder:
    """Turns JSON back into values.

    Args:
        decoders: how each object marked with a `$` is decoded.
    """

    def __init__(self, decoders: Mapping[str, Decode] | None = None) -> None:
        self.decoders: Mapping[str, Decode] = DECODERS if decoders is None else decoders

    def decode(self, node: Json) -> Any:
        """The value that a piece of JSON stands for.

        Raises:
            DecodeError: the JSON was not written by `Encoder`.
        """
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
        """The members of a sequence."""
        if not isinstance(members, list):
            raise DecodeError("a sequence is not a list")
        return [self.decode(member) for member in members]

    def pairs(self, members: Any) -> list[tuple[Any, Any]]:
        """The items of a mapping."""
        return [(key, value) for key, value in self.items(members)]


def describe_type(value: object) -> str:
    """What a value is, for a message: "the function `f`", "an object of `package.Class`"."""
    kind = type(value)
    if callable(value) and hasattr(value, "__qualname__"):
        return f"the {'class' if isinstance(value, type) else 'function'} `{value.__qualname__}`"
    return f"an object of `{kind.__module__}.{kind.__qualname__}`"


def _encode_int(value: int, encoder: Encoder) -> Json:
    return (
        value if value.bit_length() <= _MAX_BITS else encoder.refuse(f"holds an integer of more than {_MAX_BITS} bits")
    )


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
            encoder.refuse(f"is a dictionary with the attribute `{name}`")
    return node


def _decode_ordered(node: Any, decoder: Decoder) -> OrderedDict[Any, Any]:
    table = OrderedDict(decoder.pairs(node["$ordered"]))
    if "metadata" in node:
        table._metadata = decoder.decode(node["metadata"])  # type: ignore[attr-defined]
    return table


def _encode_default(value: defaultdict[Any, Any], encoder: Encoder) -> Json:
    names = [name for name, factory in _FACTORIES.items() if factory is value.default_factory]
    if not names:
        return encoder.refuse(f"makes its defaults with {describe_type(value.default_factory)}")
    return {"$defaultdict": encoder.pairs(value), "factory": names[0]}


def _encode_set(value: set[Any] | frozenset[Any], encoder: Encoder) -> Json:
    members = [encoder.encode(member) for member in value]
    return {f"${type(value).__name__}": sorted(members, key=repr)}


def _encode_bytes(value: bytes | bytearray, _: Encoder) -> Json:
    return {f"${type(value).__name__}": base64.b64encode(value).decode()}


def _encode_path(value: Path, _: Encoder) -> Json:
    return {"$path": str(value)}


ENCODERS: dict[type, Encode] = {
    int: _encode_int,
    float: _encode_float,
    complex: lambda value, encoder: {"$complex": encoder.items((value.real, value.imag))},
    bytes: _encode_bytes,
    bytearray: _encode_bytes,
    list: lambda value, encoder: encoder.items(value),
    tuple: lambda value, encoder: {"$tuple": encoder.items(value)},
    set: _encode_set,
    frozenset: _encode_set,
    deque: lambda value, encoder: {"$deque": encoder.items(value), "maxlen": value.maxlen},
    dict: _encode_dict,
    OrderedDict: _encode_ordered,
    defaultdict: _encode_default,
    Counter: lambda value, encoder: {"$counter": encoder.pairs(value)},
    PosixPath: _encode_path,
    WindowsPath: _encode_path,
}
"""How each type is encoded. A subclass is a type of its own, and is refused."""

DECODERS: dict[str, Decode] = {
    "$float": lambda node, _: float(node["$float"]),
    "$complex": lambda node, decoder: complex(*decoder.items(node["$complex"])),
    "$bytes": lambda node, _: base64.b64decode(node["$bytes"], validate=True),
    "$bytearray": lambda node, _: bytearray(base64.b64decode(node["$bytearray"], validate=True)),
    "$tuple": lambda node, decoder: tuple(decoder.items(node["$tuple"])),
    "$set": lambda node, decoder: set(decoder.items(node["$set"])),
    "$frozenset": lambda node, decoder: frozenset(decoder.items(node["$frozenset"])),
    "$deque": lambda node, decoder: deque(decoder.items(node["$deque"]), node["maxlen"]),
    "$dict": lambda node, decoder: dict(decoder.pairs(node["$dict"])),
    "$ordered": _decode_ordered,
    "$defaultdict": lambda node, decoder: defaultdict(_FACTORIES[node["factory"]], decoder.pairs(node["$defaultdict"])),
    "$counter": lambda node, decoder: Counter(dict(decoder.pairs(node["$counter"]))),
    "$path": lambda node, _: Path(node["$path"]),
}
"""How each object marked with a `$` is decoded."""
