"""A state is restored exactly from its named tensors and its JSON text."""

from __future__ import annotations

import json
import math
import random
from collections import Counter, OrderedDict, deque, namedtuple
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audiozen_core.checkpoint.errors import UnstorableStateError
from audiozen_core.checkpoint.format.json_codec import DecodeError
from audiozen_core.checkpoint.format.safetensors_file import parse_tensors, storable_dtypes, write_tensors
from audiozen_core.checkpoint.format.state_codec import flatten, unflatten
from tests.core.checkpoint.exactness import difference


def text_round_trip(state: Any) -> Any:
    tensors, encoded = flatten("owner", state)
    return unflatten(json.loads(json.dumps(encoded, allow_nan=False)), {n: t.clone() for n, t in tensors.items()})


def file_round_trip(state: Any, folder: Path) -> Any:
    tensors, encoded = flatten("owner", state)
    write_tensors(folder / "state.safetensors", tensors, {})
    return unflatten(
        json.loads(json.dumps(encoded, allow_nan=False)), parse_tensors((folder / "state.safetensors").read_bytes())[0]
    )


VALUES = [
    None, True, False, 0, -1, 2**200, 1.0, -0.0, 0.1, 1e-300, math.inf, -math.inf, math.nan,
    "", "text", "$tensor", "ein Wörtchen \ud800 \x00", b"", b"\x00\xff",
    [], (), {}, set(), [1, [2, (3,)]], (1, [2]), {1, 2, "x", (3, 4)},
    {"a": 1, "b": {"c": (None,)}}, {0: "a", "0": "b", None: "c", (1, "x"): "d", True + 1: "e", 1.5: "f", b"k": "g"},
    {"$tensor": "no tensor at all"}, {"": {"": 1}}, OrderedDict(b=1, a=2), Counter({4: 2, 2: 1}),
    np.float64(0.1), np.int32(7), np.bool_(True), np.complex64(1 + 2j), np.longdouble("0.1"),
    np.arange(6, dtype=">f8").reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.zeros((0, 2), np.uint32),
    np.array(5.0), np.array([True, False]),
]  # fmt: skip


# The text of a set differs between processes, but parallel test workers must agree on the names of the tests.
@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_restored_exactly(value):
    assert difference(text_round_trip({"value": value, "again": [value]}), {"value": value, "again": [value]}) is None


def test_comparison_in_these_tests_detects_small_differences():
    assert difference(0.0, -0.0)
    assert difference(1, True)
    assert difference((1,), [1])
    assert difference({"a": 1, "b": 2}, {"b": 2, "a": 1})
    assert difference(torch.zeros(2), torch.zeros(2, dtype=torch.float64))
    assert difference(torch.tensor(0.0), torch.tensor(-0.0))
    assert difference(OrderedDict(), {})


@pytest.mark.parametrize(
    "dtype", [*sorted(storable_dtypes(), key=str), torch.complex32, torch.complex64, torch.complex128], ids=str
)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5,), (2, 3, 4)], ids=str)
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_a_tensor_of_every_dtype_and_shape_is_restored_exactly(dtype, shape, tmp_path):
    generator = torch.Generator().manual_seed(0)
    content = torch.randint(0, 2 if dtype == torch.bool else 256, (24 * dtype.itemsize,), generator=generator)
    tensor = content.to(torch.uint8).view(dtype)[: math.prod(shape)].reshape(shape)
    back = file_round_trip({"tensor": tensor}, tmp_path)
    assert difference(back, {"tensor": tensor}) is None


leaves = (
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.binary(max_size=5)
    | st.floats(allow_subnormal=False).filter(lambda value: not math.isnan(value))
    | st.integers(0, 3).map(lambda size: torch.arange(float(size)))
)  # fmt: skip
keys = st.text(max_size=3) | st.integers(0, 3) | st.none() | st.tuples(st.integers(0, 1), st.text(max_size=1))
states = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(st.sampled_from(["a", "a.b", "$a", "$dict", "0", "__metadata__"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(states)
def test_any_nesting_is_restored_exactly(state):
    assert difference(text_round_trip(state), state) is None


def test_colliding_tensor_names_get_suffixes():
    state = {"a": {"b": torch.tensor(1)}, "a.b": torch.tensor(2), "__metadata__": torch.tensor(3), 0: [torch.tensor(4)]}
    assert set(flatten("owner", state)[0]) == {"a.b", "a.b~2", "__metadata__~2", "0.0"}
    assert difference(text_round_trip(state), state) is None


def test_tensor_with_two_names_is_stored_once_and_shared_after_loading():
    weight = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    state = {"encoder": weight, "decoder": weight.detach(), "bias": torch.zeros(4)}
    assert set(flatten("owner", state)[0]) == {"encoder", "bias"}
    back = text_round_trip(state)
    back["encoder"][0, 0] = 7
    assert back["decoder"][0, 0] == 7
    assert back["bias"][0] == 0


def test_transposed_tensor_with_two_names_is_stored_once_and_shared_after_loading():
    weight = torch.arange(6.0).reshape(2, 3).t()
    tensors, _ = flatten("owner", [weight, weight.detach()])
    assert set(tensors) == {"0"}
    back = text_round_trip([weight, weight.detach()])
    assert difference(back, [weight, weight]) is None
    assert back[0].stride() == (1, 3)
    assert back[0].data_ptr() == back[1].data_ptr()


@pytest.mark.parametrize(
    "views",
    [
        pytest.param(lambda x: [x, x[2:5]], id="a slice"),
        pytest.param(lambda x: [x[3:], x], id="the whole after its slice"),
        pytest.param(lambda x: [x[:5], x[3:]], id="two slices that overlap"),
        pytest.param(lambda x: [x.view(2, 4), x.view(2, 4).t()], id="a transpose"),
        pytest.param(lambda x: [x, x[1].expand(3), x.view(4, 2)[:, 1]], id="columns and an expanded item"),
        pytest.param(lambda x: [x, x.view(torch.int32)], id="another dtype"),
        pytest.param(
            lambda x: [torch.view_as_complex(x.view(4, 2)), torch.view_as_complex(x.view(4, 2))[1:]], id="complex"
        ),
    ],
)
def test_overlapping_tensors_are_stored_separately(views, tmp_path):
    tensors = views(torch.arange(1.0, 9.0))
    assert len(flatten("owner", tensors)[0]) == len(tensors)
    assert difference(file_round_trip(tensors, tmp_path), tensors) is None


def test_numpy_scalar_without_bytes_is_rejected():
    with pytest.raises(DecodeError):
        unflatten({"$scalar": "", "array_dtype": "<f8"}, {})


def test_disjoint_tensors_in_one_storage_are_stored_separately():
    flat = torch.arange(8.0)
    tensors, _ = flatten("owner", {"a": flat[:4], "b": flat[4:]})
    assert {name: tensor.tolist() for name, tensor in tensors.items()} == {"a": [0, 1, 2, 3], "b": [4, 5, 6, 7]}


def test_channels_last_layout_is_restored(tmp_path):
    image = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0)).to(memory_format=torch.channels_last)
    back = file_round_trip({"image": image}, tmp_path)["image"]
    assert back.is_contiguous(memory_format=torch.channels_last)
    assert difference(back, image) is None


def test_values_of_conjugated_strided_and_expanded_tensors_are_restored(tmp_path):
    state = [
        torch.tensor([1 + 2j]).conj(),
        torch.tensor([1 + 2j]).conj().imag,
        torch.arange(10.0)[::3],
        torch.ones(1).expand(4),
    ]
    assert difference(file_round_trip(state, tmp_path), state) is None


def test_parameters_and_requires_grad_are_restored():
    parameter = torch.nn.Parameter(torch.ones(2))
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    state = [parameter, frozen, torch.ones(2, requires_grad=True), torch.ones(2)]
    back = text_round_trip([*state, parameter.detach()])
    assert difference(back[:4], state) is None
    assert back[0].data_ptr() == back[4].data_ptr()
    assert not back[4].requires_grad


def test_the_state_of_the_random_generators_is_restored():
    state = [
        random.getstate(),
        np.random.get_state(),
        np.random.default_rng(3).bit_generator.state,
        torch.get_rng_state(),
    ]
    assert difference(text_round_trip(state), state) is None


def test_state_dict_of_a_module_is_restored_with_versions_and_extra_state():
    class Counting(torch.nn.BatchNorm1d):
        def get_extra_state(self):
            return {"calls": 3, "history": (1.5, None)}

        def set_extra_state(self, state):
            self.extra = state

    network = torch.nn.Sequential(torch.nn.Linear(2, 3), Counting(3))
    state = network.state_dict()
    tensors, _ = flatten("model", state)
    assert set(tensors) == {name for name in state if "extra" not in name}
    back = text_round_trip(state)
    assert difference(back, state) is None
    assert back._metadata == state._metadata
    network.load_state_dict(back)
    assert network[1].extra == {"calls": 3, "history": (1.5, None)}


Pair = namedtuple("Pair", "left right")


class Colour(int):
    pass


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (lambda epoch: epoch, "contains the function `<lambda>`"),
        (partial(max, 1), "contains an object of `functools.partial`"),
        (torch.nn.Linear, "contains the class `Linear`"),
        (object(), "contains an object of `builtins.object`"),
        (Pair(1, 2), "contains an object of `tests.core.checkpoint.format.test_state_codec.Pair`"),
        (Colour(3), "contains an object of `tests.core.checkpoint.format.test_state_codec.Colour`"),
        (deque([1]), "contains an object of `collections.deque`"),
        (torch.zeros(2, device="meta"), "without data"),
        (torch.eye(2).to_sparse(), "layout torch.sparse_coo"),
        (torch.empty(2, dtype=torch.bits8), "contains a tensor of torch.bits8"),
        (np.array([object()]), "contains an array of object"),
        (np.array(["a"]), "contains an array of <U1"),
    ],
)
def test_the_error_for_an_unstorable_value_names_owner_and_key_path(value, reason):
    with pytest.raises(UnstorableStateError) as caught:
        flatten("hooks.ema", {"state": [{"fine": 1}, {("a", 1): value}]})
    assert caught.value.message.startswith(
        "the state of `hooks.ema` can't be stored: `hooks.ema['state'][1][('a', 1)]` "
    )
    assert reason in caught.value.message


def test_one_error_names_all_unstorable_values():
    with pytest.raises(UnstorableStateError) as caught:
        flatten("hook", {"a": object(), "b": object(), "c": 1})
    assert "hook['a']" in caught.value.message
    assert "hook['b']" in caught.value.notes[0]


def test_state_that_contains_itself_is_rejected():
    loop: list[Any] = []
    loop.append({"again": loop})
    with pytest.raises(UnstorableStateError, match="contains itself"):
        flatten("hook", loop)


@pytest.mark.parametrize(
    "encoded",
    [
        {"$tensor": "missing"},
        {"$tensor": 3},
        {"$tensor": "x", "stride": [-1]},
        {"$tensor": "x", "stride": [1, 1]},
        {"$tensor": "x", "stride": "a"},
        {"$tensor": "x", "dtype": "complex64"},
        {"$module": "os.system"},
        {"$tuple": 1},
        {"$dict": [[[], 1]]},
        {"$dict": [[1]]},
        {"$float": "one"},
        {"$bytes": "*"},
        {"$array": "x", "array_dtype": "O", "array_shape": [1]},
        {"$scalar": "", "array_dtype": "<f8"},
    ],
    ids=str,
)
def test_malformed_json_is_rejected(encoded):
    with pytest.raises(DecodeError):
        unflatten({"state": [encoded]}, {"x": torch.zeros(3)})
