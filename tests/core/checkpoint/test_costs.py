"""What a save and a load cost: operations, and bytes as the kernel counts them. Clocks would depend on the machine."""

from __future__ import annotations

import os
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from audiozen_core.checkpoint.format import checkpoint
from audiozen_core.checkpoint.format.checkpoint import pack_state
from audiozen_core.checkpoint.store import CheckpointStore
from audiozen_core.checkpoint.writer import CheckpointWriter
from audiozen_core.storage import atomic
from tests.core.checkpoint.exactness import difference
from tests.core.checkpoint.faulty_disk import FaultyDisk, install

COUNTS = Path("/proc/self/io")
SIDE = 1100  # the model has more than 4 MiB, so that it is read into large pages


def state():
    weight = torch.arange(SIDE * SIDE, dtype=torch.float32).reshape(SIDE, SIDE)
    return {
        "model": {"layer.weight": weight, "layer.bias": torch.ones(3, dtype=torch.float64)},
        "optimizer": {"state": {0: {"exp_avg": weight + 1, "step": torch.tensor(3.0)}}},
        "trainer": {"epoch": 3},
    }


SIZE = 2 * 4 * SIDE * SIDE


@contextmanager
def counted():
    """Yields a counter with what the process reads and writes in the block: bytes, and calls."""
    if not COUNTS.exists():
        pytest.skip("the kernel does not count")

    def read():
        lines = (line.split(": ") for line in COUNTS.read_text().splitlines())
        return Counter({name: int(value) for name, value in lines})

    found: Counter[str] = Counter()
    before = read()
    yield found
    found.update(read() - before)


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(tmp_path / "checkpoints")


def test_save_writes_each_byte_once_and_reads_it_once_to_hash_it(store):
    with counted() as cost:
        path = store.save(state(), epoch=1, step=10)
    on_disk = sum(file.stat().st_size for file in path.iterdir())
    assert SIZE < on_disk < 1.001 * SIZE
    assert on_disk <= cost["wchar"] < on_disk + 10_000
    assert SIZE <= cost["rchar"] < 1.01 * SIZE


def test_save_makes_exactly_these_operations(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path / "checkpoints")
    store.save(state(), epoch=1, step=10)
    disk = install(monkeypatch, FaultyDisk(tmp_path))
    store.save(state(), epoch=2, step=20)
    # Two files of tensors, `state.json` and the manifest; the sync of each, of the new folder, and twice of its parent.
    assert Counter(line.split()[0] for line in disk.done) == {
        "mkdir": 1, "create": 4, "write": 4, "fsync": 7, "rename": 1, "symlink": 1, "replace": 1,
    }  # fmt: skip


@pytest.mark.parametrize("owners", [None, ["model"]], ids=["all", "the model only"])
def test_load_opens_and_reads_each_file_once(store, monkeypatch, owners):
    path = store.save(state(), epoch=1, step=10)
    opened = []
    real = os.open
    monkeypatch.setattr(atomic.os, "open", lambda file, *more: opened.append(Path(file).name) or real(file, *more))
    with counted() as cost:
        loaded = store.load(path, owners=owners)
    wanted = {name: value for name, value in state().items() if owners is None or name in owners}
    assert difference(wanted, loaded.state) is None
    tensors = [f"{name}.safetensors" for name in wanted if name != "trainer"]
    assert sorted(opened) == sorted(["manifest.json", "state.json", *tensors])
    size = sum((path / name).stat().st_size for name in opened)
    assert size <= cost["rchar"] < size + 10_000


def test_load_has_few_files_in_memory_at_once(store, monkeypatch):
    """The states may be on their way to a GPU. The memory of the machine need not have room for all of them."""
    path = store.save({f"owner {number}": {"weight": torch.ones(3)} for number in range(20)}, epoch=1, step=10)
    read, most = [], []
    verified, unpack = checkpoint.read_verified, checkpoint._unpack_owner
    monkeypatch.setattr(checkpoint, "read_verified", lambda *args: read.append(1) or verified(*args))

    def unpacked(*args):
        time.sleep(0.01)  # so that the readers may run ahead
        most.append(len(read) - len(most))
        return unpack(*args)

    monkeypatch.setattr(checkpoint, "_unpack_owner", unpacked)
    assert len(store.load(path).state) == 20
    assert 1 < max(most) <= checkpoint._READERS + 1


def test_load_makes_no_copy_of_what_it_has_read(store, monkeypatch):
    path = store.save(state(), epoch=1, step=10)
    contents = []
    real = atomic.read_hashed

    def read(file):
        content, digest = real(file)
        contents.append(content)
        return content, digest

    monkeypatch.setattr("audiozen_core.checkpoint.format.manifest.read_hashed", read)
    places = [tensor.data_ptr() for tensor in store.load(path).state["model"].values()]
    model = next(content for content in contents if b"layer.weight" in bytes(content[:500]) and content.nbytes > 1000)
    begin = torch.frombuffer(model, dtype=torch.uint8).data_ptr()
    assert all(begin < place < begin + model.nbytes for place in places)


def test_flipped_bit_of_a_large_file_is_found_in_every_piece(store):
    path = store.save(state(), epoch=1, step=10) / "model.safetensors"
    content = bytearray(path.read_bytes())
    for place in (0, 1 << 20, (3 << 20) + 5, len(content) - 1):
        content[place] ^= 64
        path.write_bytes(content)
        with pytest.raises(Exception, match="has changed since it was written"):
            store.load(path.parent)
        content[place] ^= 64
    path.write_bytes(content)
    assert store.load(path.parent).epoch == 1


def test_save_in_the_background_copies_each_tensor_once_into_the_same_memory(store, monkeypatch):
    writer = CheckpointWriter(store, background=True)
    for step in (1, 2):
        packed = pack_state(state())
        monkeypatch.setattr("audiozen_core.checkpoint.format.checkpoint.pack_state", lambda _, packed=packed: packed)
        writer.save({}, epoch=step, step=step)
        writer.wait()
        assert writer._copy is not None
        copies = {name: tensor.data_ptr() for each in writer._copy.tensors.values() for name, tensor in each.items()}
        if step == 1:
            first = copies
    assert copies == first
    assert [result.error for result in writer.take_results()] == [None, None]
