"""Any state that torch or a plugin returns <-> named tensors and JSON, exactly, without pickle.

    tensors, encoded = flatten("optimizer", optimizer.state_dict())
    state = unflatten(encoded, tensors)

Tensors are named by their key path (`state.0.exp_avg`), so the tensors of a model have the names of its `state_dict`.
In the JSON a tensor is `{"$tensor": name}`, with more keys if it is a view, permuted, complex, or a parameter. Tensors
that share memory are stored once, and share memory again after loading. Two things are lost: that one list or
dictionary occurs twice in a state, and the graph behind a tensor.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audiozen_core.checkpoint.errors import UnstorableStateError
from audiozen_core.checkpoint.format.json_codec import (
    DECODERS,
    ENCODERS,
    Decode,
    DecodeError,
    Decoder,
    Encode,
    Encoder,
    Json,
)
from audiozen_core.checkpoint.format.safetensors_file import storable_dtypes
from audiozen_core.checkpoint.format.shared_storage import MemoryConflictError, StorageView, deduplicate, rebuild

_COMPLEX = {torch.complex32: "complex32", torch.complex64: "complex64", torch.complex128: "complex128"}
_ARRAY_KINDS = "biufcSUmM"
_NOTHING = torch.empty(0, dtype=torch.uint8)


def flatten(owner: str, state: Any) -> tuple[dict[str, Tensor], Json]:
    """Splits a state into tensors and JSON.

    Args:
        owner: whose state it is, for error messages.
        state: dictionaries, lists, tuples, numbers, strings, tensors, arrays and so on, in any nesting.

    Returns:
        The tensors by name, with dtypes that safetensors has; each piece of memory occurs once, and is copied only if
        that can't be avoided. And the rest, ready for `json.dumps`.

    Raises:
        UnstorableStateError: the state holds something that can't be stored; the message names its key path.

    Example:
        >>> tensors, encoded = flatten("optimizer", {"state": {0: {"step": torch.tensor(3.0)}}, "betas": (0.9, 0.99)})
        >>> tensors
        {'state.0.step': tensor(3.)}
        >>> encoded
        {'state': {'$dict': [[0, {'step': {'$tensor': 'state.0.step'}}]]}, 'betas': {'$tuple': [0.9, 0.99]}}
        >>> unflatten(encoded, tensors)
        {'state': {0: {'step': tensor(3.)}}, 'betas': (0.9, 0.99)}
    """
    encoder = Encoder(owner, _ENCODERS)
    encoded = encoder.encode(state)
    stored: dict[str, Tensor] = {}
    try:
        stored, views = deduplicate([(name, tensor) for name, tensor, _ in encoder.attachments])
        for (_, _, node), view in zip(encoder.attachments, views, strict=True):
            _fill(node, view)
    except MemoryConflictError as error:
        encoder.refuse(f"holds {error}, which share memory in a way that can't be stored; clone one of them")
    if encoder.problems:
        first, *others = encoder.problems
        raise UnstorableStateError(
            f"the state of `{owner}` can't be stored: {first}",
            remedy="leave it out of `state_dict`, or return numbers, strings, lists, dictionaries or tensors instead",
            notes=[f"also: {problem}" for problem in others[:9]],
        )
    return {name: torch.view_as_real(t) if t.is_complex() else t for name, t in stored.items()}, encoded


def unflatten(encoded: Json, tensors: Mapping[str, Tensor]) -> Any:
    """Rebuilds a state; its tensors share memory with `tensors`.

    Raises:
        DecodeError: the JSON and the tensors do not belong together, or were not made by `flatten`.
    """
    return _TensorDecoder(tensors).decode(encoded)


class _TensorDecoder(Decoder):
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(_DECODERS)
        self._tensors = tensors
        self._made: dict[object, Tensor] = {}

    def tensor(self, node: Any) -> Tensor:
        """The tensor that a JSON object stands for; the same tensor for equal objects."""
        key = repr(node)
        if key not in self._made:
            stride = node.get("stride")
            view = StorageView(
                node["$tensor"],
                tuple(node.get("size", ())),
                None if stride is None else tuple(stride),
                node.get("offset"),
            )
            tensor = rebuild(self.stored(view.name, node.get("dtype")), view)
            if "parameter" in node:
                tensor = torch.nn.Parameter(tensor, requires_grad=node["parameter"])
            elif "requires_grad" in node:
                tensor = tensor.detach().requires_grad_()
            self._made[key] = tensor
        return self._made[key]

    def stored(self, name: str, dtype: str | None = None) -> Tensor:
        """The stored tensor of that name; the same tensor each time."""
        if name not in self._tensors:
            raise DecodeError(f"there is no tensor `{name}`")
        if dtype is None:
            return self._tensors[name]
        if (name, dtype) not in self._made:
            self._made[name, dtype] = torch.view_as_complex(self._tensors[name])
        return self._made[name, dtype]


def _encode_tensor(value: Tensor, encoder: Encoder) -> Json:
    if value.layout != torch.strided or value.is_nested:
        return encoder.refuse(f"holds a tensor of the layout {value.layout}; make it dense")
    if value.is_meta:
        return encoder.refuse("holds a tensor without data (on the device `meta`)")
    if value.dtype not in storable_dtypes() and value.dtype not in _COMPLEX:
        return encoder.refuse(f"holds a tensor of {value.dtype}")
    node: dict[str, Json] = {"$tensor": None}
    if value.dtype in _COMPLEX:
        node["dtype"] = _COMPLEX[value.dtype]
    if isinstance(value, torch.nn.Parameter):
        node["parameter"] = value.requires_grad
    elif value.is_leaf and value.requires_grad:
        node["requires_grad"] = True
    return encoder.attach(value.detach().resolve_conj().resolve_neg(), node)


def _decode_tensor(node: Any, decoder: Decoder) -> Tensor:
    assert isinstance(decoder, _TensorDecoder)
    return decoder.tensor(node)


def _fill(node: dict[str, Json], view: StorageView) -> None:
    node[next(iter(node))] = view.name
    if view.stride is not None:
        node["size"], node["stride"] = list(view.size), list(view.stride)
    if view.offset is not None:
        node["offset"] = view.offset


def _encode_array(value: np.ndarray[Any, Any], encoder: Encoder) -> Json:
    if value.dtype.kind not in _ARRAY_KINDS:
        return encoder.refuse(f"holds an array of {value.dtype}")
    octets = torch.frombuffer(bytearray(value.tobytes()), dtype=torch.uint8) if value.nbytes else _NOTHING
    return encoder.attach(octets, {"$array": None, "array_dtype": value.dtype.str, "array_shape": list(value.shape)})


def _decode_array(node: Any, decoder: Decoder) -> np.ndarray[Any, Any]:
    assert isinstance(decoder, _TensorDecoder)
    octets = decoder.stored(node["$array"]).cpu().numpy().tobytes()
    return _from_octets(octets, _array_dtype(node), node["array_shape"]).copy()


def _encode_scalar(value: np.generic, encoder: Encoder) -> Json:
    return {"$scalar": base64.b64encode(value.tobytes()).decode(), "array_dtype": value.dtype.str}


def _decode_scalar(node: Any, _: Decoder) -> Any:
    return _from_octets(base64.b64decode(node["$scalar"], validate=True), _array_dtype(node), ())[()]


def _from_octets(octets: bytes, dtype: np.dtype[Any], shape: Sequence[int]) -> np.ndarray[Any, Any]:
    if dtype.itemsize == 0:  # Empty strings; `frombuffer` refuses them.
        return np.ndarray(tuple(shape), dtype)
    return np.frombuffer(octets, dtype=dtype).reshape(shape)


def _array_dtype(node: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(node["array_dtype"])
    if dtype.kind not in _ARRAY_KINDS:
        raise DecodeError(f"an array of {dtype}")
    return dtype


def _decode_dtype(node: Any, _: Decoder) -> torch.dtype:
    dtype = getattr(torch, node["$dtype"])
    if not isinstance(dtype, torch.dtype):
        raise DecodeError(f"this version of torch has no dtype {node['$dtype']!r}")
    return dtype


_SCALARS = {np.dtype(code).type for code in np.typecodes["All"] if np.dtype(code).kind in _ARRAY_KINDS}
_ENCODERS: dict[type, Encode] = {
    **ENCODERS,
    **dict.fromkeys(_SCALARS, _encode_scalar),
    np.ndarray: _encode_array,
    Tensor: _encode_tensor,
    torch.nn.Parameter: _encode_tensor,
    torch.Size: lambda value, _: {"$size": list(value)},
    torch.dtype: lambda value, _: {"$dtype": str(value).removeprefix("torch.")},
    torch.device: lambda value, _: {"$device": str(value)},
}
_DECODERS: dict[str, Decode] = {
    **DECODERS,
    "$array": _decode_array,
    "$scalar": _decode_scalar,
    "$tensor": _decode_tensor,
    "$size": lambda node, _: torch.Size(node["$size"]),
    "$dtype": _decode_dtype,
    "$device": lambda node, _: torch.device(node["$device"]),
}
