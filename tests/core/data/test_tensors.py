"""A batch reaches the device whatever holds its tensors."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest
import torch

from audiozen_core.data.loader import to_device
from audiozen_core.trainer.input_copies import copy_tensors

Pair = namedtuple("Pair", ["noisy", "clean"])


@dataclass
class Batch:
    noisy: Any
    id: Any = "a"


@dataclass(frozen=True, slots=True)
class Frozen:
    noisy: Any


class Names(dict):
    """Has an attribute of its own."""

    sr = 16_000


HOLDERS = {
    "dict": (lambda x: {"x": x, "id": "a"}, lambda held: held["x"]),
    "own dict": (lambda x: Names(x=x), lambda held: held["x"]),
    "OrderedDict": (lambda x: OrderedDict(x=x), lambda held: held["x"]),
    "read only": (lambda x: MappingProxyType({"x": x}), lambda held: held["x"]),
    "list": (lambda x: ["a", x], lambda held: held[1]),
    "tuple": (lambda x: ("a", x), lambda held: held[1]),
    "namedtuple": (lambda x: Pair(x, None), lambda held: held.noisy),
    "dataclass": (Batch, lambda held: held.noisy),
    "frozen": (Frozen, lambda held: held.noisy),
    "nested": (lambda x: Batch([{"x": (x,)}]), lambda held: held.noisy[0]["x"][0]),
}


@pytest.mark.parametrize(("hold", "held"), HOLDERS.values(), ids=HOLDERS)
def test_tensors_in_any_holder_are_moved_and_copied(hold, held):
    x = torch.ones(2)
    given = hold(x)
    moved = to_device(given, torch.device("meta"))
    assert held(moved).device.type == "meta"
    assert type(moved) is (dict if isinstance(given, MappingProxyType) else type(given))
    copy = copy_tensors(given)
    assert torch.equal(held(copy), x)
    assert held(copy).data_ptr() != x.data_ptr()
    assert held(given) is x


def test_what_is_no_tensor_stays_the_same_object():
    given = {"id": "a", "names": ("a", "b"), "other": object()}
    moved = to_device(given, torch.device("meta"))
    assert all(moved[name] is value for name, value in given.items())
