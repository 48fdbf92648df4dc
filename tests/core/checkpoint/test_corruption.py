"""A changed checkpoint is rejected with a reason, or loads exactly the saved state."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import xxhash

from audiozen_core.checkpoint.errors import DamagedCheckpointError
from audiozen_core.checkpoint.format import manifest as manifest_module
from audiozen_core.checkpoint.store import CheckpointStore
from tests.core.checkpoint.exactness import difference


def state(seed: int) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "model": {"weight": torch.randn(3, 4, generator=generator), "count": torch.tensor(seed)},
        "trainer": {"epoch": seed, "score": 0.5},
    }


@pytest.fixture
def store(tmp_path):
    store = CheckpointStore(tmp_path / "checkpoints")
    for epoch in (1, 2):
        store.save(state(epoch), epoch=epoch, step=epoch)
    return store


@pytest.fixture
def path(store):
    return store.folder / "epoch_0002"


FILES = ("manifest.json", "model.safetensors", "state.json")


def is_rejected(store: CheckpointStore, path: Path) -> bool:
    """Returns whether the store rejects the checkpoint. A checkpoint that loads must have the saved state."""
    try:
        loaded = store.load(path)
    except DamagedCheckpointError:
        return True
    assert difference(loaded.state, state(2)) is None
    assert (loaded.epoch, loaded.step) == (2, 2)
    return False


@pytest.mark.parametrize("name", FILES)
def test_any_flipped_bit_is_detected(store, path, name):
    whole = (path / name).read_bytes()
    chooser = random.Random(0)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 1 << chooser.randrange(8)
        (path / name).write_bytes(changed)
        assert is_rejected(store, path), f"byte {place}"
    (path / name).write_bytes(whole)
    assert not is_rejected(store, path)


@pytest.mark.parametrize("name", FILES)
def test_truncated_or_longer_file_is_detected(store, path, name):
    whole = (path / name).read_bytes()
    for length in {0, 1, 7, 8, 9, *range(10, len(whole), 37), len(whole) - 1}:
        (path / name).write_bytes(whole[:length])
        assert is_rejected(store, path), f"{length} bytes"
    for more in (b"\x00", b" ", b"\n", whole):
        (path / name).write_bytes(whole + more)
        assert is_rejected(store, path)


@pytest.mark.parametrize("name", FILES)
def test_missing_or_irregular_file_is_detected(store, path, name, tmp_path):
    whole = (path / name).read_bytes()
    (tmp_path / "outside").write_bytes(whole)

    def replace(make: Callable[[Path], object]) -> None:
        (path / name).rmdir() if (path / name).is_dir() else (path / name).unlink(missing_ok=True)
        make(path / name)
        assert is_rejected(store, path)

    replace(lambda file: None)
    replace(lambda file: file.symlink_to(tmp_path / "outside"))
    replace(os.mkfifo)
    replace(lambda file: file.mkdir())


@pytest.mark.parametrize("name", FILES)
def test_file_of_another_checkpoint_is_detected(store, path, name):
    shutil.copy(store.folder / "epoch_0001" / name, path / name)
    assert is_rejected(store, path)


def test_swapped_bytes_are_detected(store, path):
    whole = bytearray((path / "model.safetensors").read_bytes())
    whole[-8:-4], whole[-4:] = whole[-4:], whole[-8:-4]
    (path / "model.safetensors").write_bytes(whole)
    assert is_rejected(store, path)


def forge(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Rewrites a manifest with a valid seal. An attacker could do the same."""
    fields = json.loads((path / "manifest.json").read_text())
    del fields["seal"]
    change(fields)
    (path / "manifest.json").write_text(manifest_module._sealed(fields))


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "..", "a/b", ".hidden", "", "a\\b", "manifest.json"]
)
def test_manifest_cannot_list_a_file_outside_its_folder(store, path, name):
    forge(path, lambda fields: fields["files"].update({name: {"size": 1, "xxh3": "0" * 32}}))
    with pytest.raises(DamagedCheckpointError, match=r"its manifest\.json lists .* which is not a valid file name"):
        store.load(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.clear(),
        lambda fields: fields.pop("files"),
        lambda fields: fields.update(files=[]),
        lambda fields: fields.update(files={}),
        lambda fields: fields.update(files={"state.json": 3}),
        lambda fields: fields.update(more=1),
        lambda fields: fields.pop("epoch"),
        lambda fields: fields.update(score={"$float": "one"}),
        lambda fields: fields["files"].pop("model.safetensors"),
        lambda fields: fields["files"]["state.json"].update(size="1"),
    ],
)
def test_malformed_manifest_with_a_valid_seal_is_rejected(store, path, change):
    forge(path, change)
    assert is_rejected(store, path)
    assert [info.intact for info in store.list()] in ([True, False], [False, True])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"owners": {"a": 1}}',
        '{"owners": {"a": {"tensors": "../x", "state": 1}}}',
        '{"owners": {"a": {"tensors": null}}}',
        '{"owners": {"a": {"tensors": null, "state": {"$tensor": "weight"}}}}',
        "[" * 99_999,
    ],
    ids=lambda text: text[:50],
)
def test_malformed_state_with_a_matching_digest_is_rejected(store, path, text):
    (path / "state.json").write_text(text)
    digest = {"size": len(text), "xxh3": xxhash.xxh3_128_hexdigest(text.encode())}
    forge(path, lambda fields: fields["files"].update({"state.json": digest}))
    with pytest.raises(DamagedCheckpointError):
        store.load(path)


def test_malformed_tensor_header_with_a_matching_digest_is_rejected(store, path):
    content = (2**63).to_bytes(8, "little") + b"{}"
    (path / "model.safetensors").write_bytes(content)
    digest = {"size": len(content), "xxh3": xxhash.xxh3_128_hexdigest(content)}
    forge(path, lambda fields: fields["files"].update({"model.safetensors": digest}))
    with pytest.raises(
        DamagedCheckpointError, match=r"the state of `model` is malformed: its header is longer than the file"
    ):
        store.load(path)


@pytest.mark.parametrize(("number", "age"), [(1, "an older"), (manifest_module.FORMAT + 1, "a newer")])
def test_error_says_if_a_checkpoint_has_another_format(store, path, number, age):
    forge(path, lambda fields: fields.update(format=number))
    with pytest.raises(DamagedCheckpointError, match=rf"{age} AudioZEN wrote it \(format {number}\)") as caught:
        store.load(path)
    assert caught.value.remedy == ("upgrade audiozen" if number > 1 else "use that version to read it")


def test_a_moved_or_renamed_checkpoint_still_loads(store, path, tmp_path):
    path.rename(tmp_path / "elsewhere")
    assert not is_rejected(store, tmp_path / "elsewhere")
