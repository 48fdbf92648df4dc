"""Splits a state of torch or of a plugin into named tensors and JSON, and rebuilds it exactly, without pickle.

    tensors, encoded = flatten("optimizer", optimizer.state_dict())
    state = unflatten(encoded, tensors)

Tensors are named by their key path (`state.0.exp_avg`), so the tensors of a model have the names of its `state_dict`.
In the JSON a tensor is `{"$tensor": name}`, with more keys if it is permuted, complex, or a parameter. Tied weights,
one tensor under several names, are stored once and tied again after loading. Three things are lost: tensors that share
only part of their memory become independent, a list or dictionary that occurs twice is duplicated, and a tensor loses
its autograd graph.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
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

_COMPLEX = {torch.complex32: "complex32", torch.complex64: "complex64", torch.complex128: "complex128"}
_ARRAY_KINDS = "biufc"


def flatten(owner: str, state: Any) -> tuple[dict[str, Tensor], Json]:
    """Splits a state into tensors and JSON.

    Args:
        owner: the owner of the state, for error messages.
        state: dictionaries, lists, tuples, numbers, strings, tensors, arrays and so on, in any nesting.

    Returns:
        The tensors by name, and the rest of the state as JSON, ready for `json.dumps`. The tensors share memory with
        the state, and have dtypes that safetensors knows.

    Raises:
        UnstorableStateError: the state contains something that can't be stored; the message names its key path.

    Example:
        >>> tensors, encoded = flatten("optimizer", {"state": {0: {"step": torch.tensor(3.0)}}, "betas": (0.9, 0.99)})
        >>> tensors
        {'state.0.step': tensor(3.)}
        >>> encoded
        {'state': {'$dict': [[0, {'step': {'$tensor': 'state.0.step'}}]]}, 'betas': {'$tuple': [0.9, 0.99]}}
        >>> unflatten(encoded, tensors)
        {'state': {0: {'step': tensor(3.)}}, 'betas': (0.9, 0.99)}
    """
    encoder = _TensorEncoder(_ENCODERS)
    encoded = encoder.encode(state)
    if encoder.problems:
        raise UnstorableStateError(owner, encoder.problems)
    return encoder.tensors, encoded


def unflatten(encoded: Json, tensors: Mapping[str, Tensor]) -> Any:
    """Rebuilds a state; its tensors share memory with `tensors`.

    Raises:
        DecodeError: the JSON and the tensors do not belong together, or were not made by `flatten`.
    """
    return _TensorDecoder(tensors).decode(encoded)


class _TensorEncoder(Encoder):
    def __init__(self, encoders: Mapping[type, Encode]) -> None:
        super().__init__(encoders)
        self.tensors: dict[str, Tensor] = {}
        self._stored: dict[object, str] = {}

    def store(self, tensor: Tensor) -> str:
        """Returns the name under which a tensor is stored: its key path, or the first name of tied weights."""
        memory = tensor.data_ptr(), tensor.device, tensor.dtype, tensor.shape, tensor.stride()
        if memory in self._stored:
            return self._stored[memory]
        plain = name = ".".join(map(str, self.keys)) or "~"
        count = 1
        while name in self.tensors or name == "__metadata__":
            count += 1
            name = f"{plain}~{count}"
        self.tensors[name] = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        if tensor.numel():  # All empty tensors have the same address.
            self._stored[memory] = name
        return name


class _TensorDecoder(Decoder):
    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__(_DECODERS)
        self.tensors = tensors
        self.decoded: dict[str, Tensor] = {}


def _encode_tensor(value: Tensor, encoder: Encoder) -> Json:
    assert isinstance(encoder, _TensorEncoder)
    if value.layout != torch.strided or value.is_nested:
        return encoder.add_problem(f"contains a tensor of the layout {value.layout}; make it dense")
    if value.is_meta:
        return encoder.add_problem("contains a tensor without data (on the device `meta`)")
    if value.dtype not in storable_dtypes() and value.dtype not in _COMPLEX:
        return encoder.add_problem(f"contains a tensor of {value.dtype}")
    node: dict[str, Json] = {"$tensor": encoder.store(value.detach().resolve_conj().resolve_neg())}
    if value.dtype in _COMPLEX:
        node["dtype"] = _COMPLEX[value.dtype]
    if not value.is_contiguous():
        # Stores the strides of a dense copy, so that the memory format (such as `channels_last`) survives.
        node["stride"] = list(torch.empty_like(value, device="meta").stride())
    if isinstance(value, torch.nn.Parameter):
        node["parameter"] = value.requires_grad
    elif value.is_leaf and value.requires_grad:
        node["requires_grad"] = True
    return node


def _decode_tensor(node: Any, decoder: Decoder) -> Tensor:
    assert isinstance(decoder, _TensorDecoder)
    key = repr(node)
    if key not in decoder.decoded:
        tensor = decoder.tensors[node["$tensor"]]
        if "dtype" in node:
            tensor = torch.view_as_complex(tensor)
        if "stride" in node:
            tensor = torch.empty_strided(tensor.shape, node["stride"], dtype=tensor.dtype, device=tensor.device).copy_(
                tensor
            )
        if "parameter" in node:
            tensor = torch.nn.Parameter(tensor, requires_grad=node["parameter"])
        elif "requires_grad" in node:
            tensor = tensor.detach().requires_grad_()
        decoder.decoded[key] = tensor
    return decoder.decoded[key]


def _encode_array(value: np.ndarray[Any, Any], encoder: Encoder) -> Json:
    assert isinstance(encoder, _TensorEncoder)
    if value.dtype.kind not in _ARRAY_KINDS:
        return encoder.add_problem(f"contains an array of {value.dtype}")
    octets = torch.from_numpy(np.frombuffer(bytearray(value.tobytes()), dtype=np.uint8))
    return {"$array": encoder.store(octets), "array_dtype": value.dtype.str, "array_shape": list(value.shape)}


def _decode_array(node: Any, decoder: Decoder) -> np.ndarray[Any, Any]:
    assert isinstance(decoder, _TensorDecoder)
    octets = decoder.tensors[node["$array"]].cpu().numpy().tobytes()
    return np.array(np.frombuffer(octets, dtype=_array_dtype(node)).reshape(node["array_shape"]))


def _encode_scalar(value: np.generic, encoder: Encoder) -> Json:
    return {"$scalar": base64.b64encode(value.tobytes()).decode(), "array_dtype": value.dtype.str}


def _decode_scalar(node: Any, _: Decoder) -> Any:
    return np.frombuffer(base64.b64decode(node["$scalar"], validate=True), dtype=_array_dtype(node))[0]


def _array_dtype(node: Any) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(node["array_dtype"])
    if dtype.kind not in _ARRAY_KINDS:
        raise DecodeError(f"the stored array has the type {dtype}, which is not supported")
    return dtype


_SCALARS = {np.dtype(code).type for code in np.typecodes["All"] if np.dtype(code).kind in _ARRAY_KINDS}
_ENCODERS: dict[type, Encode] = {
    **ENCODERS,
    **dict.fromkeys(_SCALARS, _encode_scalar),
    np.ndarray: _encode_array,
    Tensor: _encode_tensor,
    torch.nn.Parameter: _encode_tensor,
}
_DECODERS: dict[str, Decode] = {
    **DECODERS,
    "$array": _decode_array,
    "$scalar": _decode_scalar,
    "$tensor": _decode_tensor,
}
