"""Plain Python values <-> JSON, exactly: what JSON has no word for stands in a table with one key that starts with `$`.

    (1, inf)            {"$tuple": [1, {"$float": "inf"}]}
    {0: "a"}            {"$dict": [[0, "a"]]}
    Counter({4: 2})     {"$counter": [[4, 2]]}

Tensors and arrays are added by `tensors.py`. Imports no torch.
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


class SkeletonError(ValueError):
    """JSON that no encoder has written."""


class Encoder:
    """Turns values into JSON and gathers what it can't turn, with the key path of each.

    Args:
        owner: whose value it is; every key path starts with it.
        kinds: how each type is encoded.

    Attributes:
        problems: "path: reason" of each value that can't be stored.
        attachments: what is kept outside the JSON: a name like its key path, the thing, and the node in its place.
    """

    def __init__(self, owner: str, kinds: Mapping[type, Encode] | None = None) -> None:
        self.problems: list[str] = []
        self.attachments: list[tuple[str, Any, dict[str, Json]]] = []
        self._kinds = ENCODERS if kinds is None else kinds
        self._owner = owner
        self._keys: list[Any] = []
        self._open: list[int] = []
        self._names = {"__metadata__"}

    def encode(self, value: Any) -> Json:
        """The value as JSON; null, and a problem noted, where that can't be."""
        kind = type(value)
        if kind in (type(None), bool, str):
            return value  # type: ignore[no-any-return]
        encode = self._kinds.get(kind)
        if encode is None:
            return self.refuse(f"holds {describe(value)}")
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
        """The member of a container under `key`, as JSON."""
        self._keys.append(key)
        try:
            return self.encode(value)
        finally:
            self._keys.pop()

    def items(self, values: Iterable[Any]) -> list[Json]:
        """The members of a sequence."""
        return [self.member(index, value) for index, value in enumerate(values)]

    def pairs(self, table: Mapping[Any, Any]) -> list[Json]:
        """The items of a mapping as a list of pairs, in their order."""
        return [[self.encode(key), self.member(key, value)] for key, value in table.items()]

    def refuse(self, reason: str) -> Json:
        """Notes that the value here can't be stored, and gives null in its place."""
        path = self._owner + "".join(f"[{key!r}]" for key in self._keys)
        self.problems.append(f"`{path}` {reason}")
        return None

    def attach(self, thing: Any, node: dict[str, Json]) -> Json:
        """Keeps a thing outside the JSON, where `node` stands for it."""
        plain = name = ".".join(map(str, self._keys)) or "~"
        count = 1
        while name in self._names:
            count += 1
            name = f"{plain}~{count}"
        self._names.add(name)
        self.attachments.append((name, thing, node))
        return node


class Decoder:
    """Turns JSON back into values.

    Args:
        kinds: the tables with a `$` that are known.
    """

    kinds: Mapping[str, Decode]

    def __init__(self, kinds: Mapping[str, Decode] | None = None) -> None:
        self.kinds = DECODERS if kinds is None else kinds

    def decode(self, node: Json) -> Any:
        """The value.

        Raises:
            SkeletonError: no encoder has written this.
        """
        if isinstance(node, list):
            return [self.decode(member) for member in node]
        if not isinstance(node, dict):
            return node
        mark = next(iter(node), "")
        if not mark.startswith("$"):
            return {key: self.decode(value) for key, value in node.items()}
        if mark not in self.kinds:
            raise SkeletonError(f"unknown kind of value {mark!r}")
        try:
            return self.kinds[mark](node, self)
        except SkeletonError:
            raise
        except (ValueError, TypeError, KeyError, IndexError, OverflowError, RuntimeError) as error:
            raise SkeletonError(f"malformed {mark!r}: {error}") from error

    def items(self, members: Any) -> list[Any]:
        """The members of a sequence."""
        if not isinstance(members, list):
            raise SkeletonError("a sequence is no list")
        return [self.decode(member) for member in members]

    def pairs(self, members: Any) -> list[tuple[Any, Any]]:
        """The items of a mapping."""
        return [(key, value) for key, value in self.items(members)]


def describe(value: object) -> str:
    """What a value is, for a message: "a function", "an object of `package.Class`"."""
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
    # nn.Module.state_dict hangs the versions of its modules on the dictionary, and loads by them.
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
        return encoder.refuse(f"makes its defaults with {describe(value.default_factory)}")
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
"""How each type is encoded; a subclass of these types is another type, and is refused."""

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
"""How each marked table is decoded."""
