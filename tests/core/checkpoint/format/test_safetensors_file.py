"""Our files are compatible with the safetensors package, and a malformed file raises `FormatError`."""

from __future__ import annotations

import json
import tracemalloc

import pytest
import safetensors.torch
import torch
import xxhash

from audiozen_core.checkpoint.format.safetensors_file import (
    FormatError,
    parse_tensors,
    storable_dtypes,
    write_tensors,
)
from tests.core.checkpoint.exactness import difference


def tensors_of_each_kind() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        str(dtype): torch.randint(0, 2, (2, 3 * dtype.itemsize), generator=generator).to(torch.uint8).view(dtype)
        for dtype in storable_dtypes()
    }
    return tensors | {"scalar": torch.tensor(1.5), "empty": torch.empty(3, 0), "transposed": torch.ones(2, 3).t()}


def test_safetensors_package_loads_our_files(tmp_path):
    tensors = tensors_of_each_kind()
    digest = write_tensors(tmp_path / "file.safetensors", tensors, {"format": "pt"})
    theirs = safetensors.torch.load_file(tmp_path / "file.safetensors")
    assert all(difference(theirs[name], tensors[name]) is None for name in tensors)
    assert len(theirs) == len(tensors)
    assert digest.xxh3 == xxhash.xxh3_128_hexdigest((tmp_path / "file.safetensors").read_bytes())


def test_file_saved_by_the_safetensors_package_is_read(tmp_path):
    tensors = {name: tensor.contiguous() for name, tensor in tensors_of_each_kind().items()}
    tensors["complex"] = torch.tensor([1 + 2j])
    safetensors.torch.save_file(tensors, tmp_path / "file.safetensors", {"a": "b"})
    ours, metadata = parse_tensors((tmp_path / "file.safetensors").read_bytes())
    assert all(difference(ours[name], tensors[name]) is None for name in tensors)
    assert metadata == {"a": "b"}


def test_every_dtype_that_torch_shares_with_the_format_is_stored():
    assert {str(dtype).removeprefix("torch.") for dtype in storable_dtypes()} == {
        "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "bfloat16",
        "float32", "float64", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu",
    }  # fmt: skip


def test_error_names_a_dtype_that_torch_lacks():
    with pytest.raises(FormatError, match="tensor `a` has the dtype F6_E2M3"):
        parse_tensors(file_of({"a": field(dtype="F6_E2M3", shape=(4,), offsets=(0, 3))}, b"123"))


def test_tensors_start_at_multiples_of_their_item_size(tmp_path):
    write_tensors(
        tmp_path / "f", {"a": torch.ones(3, dtype=torch.bool), "b": torch.ones(1).double(), "c": torch.ones(1)}, {}
    )
    header, start = header_of((tmp_path / "f").read_bytes())
    assert start % 8 == 0
    assert {name: field["data_offsets"] for name, field in header.items()} == {"b": [0, 8], "c": [8, 12], "a": [12, 15]}


def header_of(content: bytes) -> tuple[dict, int]:
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), 8 + length


def file_of(header: object, data: bytes = b"\x00" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def field(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


BAD = {
    "no bytes": b"",
    "seven bytes": b"1234567",
    "a header of 2^63 bytes": (2**63).to_bytes(8, "little") + b"{}",
    "a header longer than the file": (100).to_bytes(8, "little") + b"{}",
    "not JSON": file_of(b"{nonsense"),
    "not UTF-8": file_of(b"\xff\xfe"),
    "a header that is a list": file_of([1]),
    "endless nesting": file_of(b"[" * 100_000),
    "a name twice": file_of(b'{"a": 1, "a": 2}'),
    "metadata that are not strings": file_of({"__metadata__": {"a": 1}}, b""),
    "an entry that is not an object": file_of({"a": 1}),
    "an unknown dtype": file_of({"a": field(dtype="F31")}),
    "a dtype that is not a string": file_of({"a": field(dtype=["F32"])}),
    "a negative size": file_of({"a": field(shape=(-2,))}),
    "a size that is not an integer": file_of({"a": field(shape=(2.0,))}),
    "a boolean as a size": file_of({"a": field(shape=(2, True))}),
    "a shape that is not a list": file_of({"a": field(shape="2")}),
    "a shape of 2^62 items": file_of({"a": field(shape=(2**31, 2**31))}),
    "sizes that overflow": file_of({"a": field(shape=(0, 2**62, 2**62), offsets=(0, 0)), "b": field()}),
    "too few bytes for the shape": file_of({"a": field(offsets=(0, 4))}),
    "offsets in the wrong order": file_of({"a": field(offsets=(8, 0))}),
    "three offsets": file_of({"a": field(offsets=(0, 4, 8))}),
    "a gap before the first": file_of({"a": field(offsets=(8, 16))}, b"\x00" * 16),
    "two tensors in one place": file_of({"a": field(), "b": field()}),
    "a tensor beyond the end": file_of({"a": field(shape=(4,), offsets=(0, 16))}),
    "bytes that belong to no tensor": file_of({"a": field(shape=(1,), offsets=(0, 4))}),
}


@pytest.mark.parametrize("what", BAD)
def test_malformed_file_is_rejected(what):
    with pytest.raises(FormatError):
        parse_tensors(BAD[what])
    if what != "sizes that overflow":  # torch rejects these, not the library
        with pytest.raises(safetensors.SafetensorError):
            safetensors.deserialize(BAD[what])


@pytest.mark.parametrize("more", [{}, {"more": 1}], ids=["plain", "with a field of a later version"])
def test_valid_file_built_with_the_same_helpers_is_read(more):
    content = file_of({"a": field() | more, "none": field(shape=(0,), offsets=(8, 8))})
    tensors, metadata = parse_tensors(content)
    assert tensors["a"].tolist() == [0, 0]
    assert tensors["none"].shape == (0,)
    assert metadata == {}


def test_truncated_file_is_rejected(tmp_path):
    write_tensors(tmp_path / "file", {"a": torch.ones(100)}, {})
    content = (tmp_path / "file").read_bytes()
    for length in range(0, len(content), 7):
        with pytest.raises(FormatError):
            parse_tensors(content[:length])


def test_tensor_from_a_file_can_be_changed_without_changing_the_content(tmp_path):
    write_tensors(tmp_path / "file", {"a": torch.ones(2)}, {})
    content = (tmp_path / "file").read_bytes()
    parse_tensors(content)[0]["a"].zero_()
    assert parse_tensors(content)[0]["a"].tolist() == [1, 1]


def test_tensors_share_the_memory_of_a_content_that_may_be_written_to(tmp_path):
    write_tensors(tmp_path / "file", {"a": torch.ones(2)}, {})
    content = bytearray((tmp_path / "file").read_bytes())
    parse_tensors(memoryview(content))[0]["a"].zero_()
    assert content[-8:] == bytes(8)


def test_tensor_at_an_odd_position_is_read():
    header = {"a": field(dtype="U8", shape=(1,), offsets=(0, 1)), "b": field(shape=(1,), offsets=(1, 5))}
    tensors, _ = parse_tensors(file_of(header, b"\x07\x00\x00\x80\x3f"))
    assert (tensors["a"].tolist(), tensors["b"].tolist()) == ([7], [1.0])
    assert tensors["b"].data_ptr() % 4 == 0


def test_forged_length_does_not_allocate_much_memory():
    for content in (BAD["a header of 2^63 bytes"], BAD["a shape of 2^62 items"], BAD["a tensor beyond the end"]):
        tracemalloc.start()
        with pytest.raises(FormatError):
            parse_tensors(content)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1 << 20


def test_null_metadata_is_read_as_no_metadata():
    header = b'{"__metadata__":null,"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    tensors, metadata = parse_tensors(len(header).to_bytes(8, "little") + header + b"\x07")
    assert (tensors["a"].tolist(), metadata) == ([7], {})
