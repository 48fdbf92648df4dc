"""Converts a PyTorch file into a safetensors file. `torch_file` runs this module in a separate process.

No other module may import this module. PyTorch files are pickles, and only this module reads them. Torch's unpickler
for weights creates only tensors, numbers, strings and containers, and refuses everything else without running it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audiozen_core.checkpoint.format.safetensors_file import storable_dtypes, write_tensors

_MOST_LEVELS = 3


def convert_weights(source: Path, target: Path, key: str) -> dict[str, Any]:
    """Reads the weights in a PyTorch file, and writes a safetensors file.

    Returns:
        `key`, `tensors`, `weights` and `left_out` of the weights that were written; or `error`, with a `remedy`.
    """
    try:
        content = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:
        text = str(error)
        if found := re.search(r"GLOBAL ([\w.]+)", text):
            return {
                "error": f"it contains `{found[1]}`, which is code; it was not run",
                "remedy": "get the weights alone from its author: a dictionary of tensors",
            }
        # Torch's message begins with the advice to allow the file to run code, so only the reason is kept.
        reason = text.rpartition("WeightsUnpickler error:")[2].strip()
        first = (reason.splitlines() or [""])[0][:200]
        return {
            "error": f"torch can't read it: {type(error).__name__}: {first}",
            "remedy": "check that it is complete, or get a dictionary of tensors from its author, as `torch.save` "
            "writes it by default",
        }
    found_at = dict(_states(content, ()))
    if not found_at:
        return {"error": "it has no dictionary of tensors", "remedy": ""}
    if key:
        if key not in found_at:
            return {"error": f"it has no weights at `{key}`", "remedy": _choice(found_at)}
    elif len(found_at) > 1:
        return {"error": "it has several dictionaries of tensors", "remedy": _choice(found_at)}
    chosen = key or next(iter(found_at))
    state = found_at[chosen]
    tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.dtype not in storable_dtypes():
            return {"error": f"`{name}` is of {tensor.dtype}, {tensor.layout}, which can't be stored", "remedy": ""}
    write_tensors(target, tensors, {})
    return {
        "key": chosen,
        "tensors": len(tensors),
        "weights": sum(tensor.numel() for tensor in tensors.values()),
        "left_out": [str(name) for name in state if str(name) not in tensors],
    }


def _states(value: Any, place: tuple[str, ...]) -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """Yields each dictionary with tensors, and its dotted key. States of optimisers are left out."""
    if not isinstance(value, Mapping) or len(place) > _MOST_LEVELS or {"state", "param_groups"} <= set(value):
        return
    if any(isinstance(entry, Tensor) for entry in value.values()):
        yield ".".join(place), value
    for name, entry in value.items():
        yield from _states(entry, (*place, str(name)))


def _choice(found: Mapping[str, Any]) -> str:
    keys = [f"`--key {key}`" for key in found if key]
    return f"choose one with {' or '.join(keys)}" if keys else "leave `--key` out"


if __name__ == "__main__":
    sys.stdout.write(json.dumps(convert_weights(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])))
