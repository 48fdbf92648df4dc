"""A randomly damaged checkpoint is rejected, or loads exactly the saved state."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audiozen_core.checkpoint.errors import DamagedCheckpointError
from audiozen_core.checkpoint.store import CheckpointStore
from tests.core.checkpoint.exactness import difference
from tests.core.checkpoint.test_corruption import FILES, state

# These tests run the same lines thousands of times. Measuring the coverage of all runs would double the time.
pytestmark = pytest.mark.no_cover

SETTINGS = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True, "database": None}

DAMAGE = st.one_of(
    st.tuples(st.just("flip"), st.integers(0, 9999), st.integers(1, 255)),
    st.tuples(st.just("cut"), st.integers(0, 9999), st.just(0)),
    st.tuples(st.just("insert"), st.integers(0, 9999), st.binary(min_size=1, max_size=16)),
    st.tuples(st.just("overwrite"), st.integers(0, 9999), st.binary(min_size=1, max_size=64)),
    st.tuples(st.just("other"), st.sampled_from(FILES), st.just(0)),
    st.tuples(st.just("text"), st.just(0), st.text(max_size=40)),
)


def damaged(whole: bytes, kind: str, where: object, what: object, folder: Path) -> bytes:
    if kind == "other":
        return (folder / str(where)).read_bytes()
    if kind == "text":
        return str(what).encode()
    place = int(str(where)) * (len(whole) - 1) // 9999
    if kind == "flip":
        return whole[:place] + bytes([whole[place] ^ int(str(what))]) + whole[place + 1 :]
    if kind == "cut":
        return whole[:place]
    assert isinstance(what, bytes)
    return whole[:place] + what + whole[place + (len(what) if kind == "overwrite" else 0) :]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    store = CheckpointStore(tmp_path_factory.mktemp("fuzz") / "checkpoints")
    for epoch in (1, 2):
        store.save(state(epoch), epoch=epoch, step=epoch)
    shutil.copytree(store.folder / "epoch_0001", store.folder.parent / "other")
    return store


def check(store, name, damage):
    path = store.folder / "epoch_0002" / name
    whole = path.read_bytes()
    try:
        path.write_bytes(damaged(whole, *damage, store.folder.parent / "other"))
        try:
            loaded = store.load(store.folder / "epoch_0002")
        except DamagedCheckpointError:
            # `latest` skips the damaged checkpoint and loads the one before it.
            latest = store.load("latest")
            assert (latest.epoch, difference(latest.state, state(1))) == (1, None)
            return True
        assert difference(loaded.state, state(2)) is None
        return False
    finally:
        path.write_bytes(whole)


@given(st.sampled_from(FILES), DAMAGE)
@settings(max_examples=80, **SETTINGS)
def test_random_damage_is_rejected_or_harmless(store, name, damage):
    check(store, name, damage)


@pytest.mark.slow
@given(st.sampled_from(FILES), DAMAGE)
@settings(max_examples=10_000, **SETTINGS)
def test_ten_thousand_random_damages_are_rejected_or_harmless(store, name, damage):
    check(store, name, damage)


def test_check_of_these_tests_distinguishes_damaged_from_intact_files(store):
    assert check(store, "model.safetensors", ("flip", 9000, 1))
    assert not check(store, "model.safetensors", ("overwrite", 0, b""))
