"""A run that is stopped at any step and resumed ends with exactly the same state as an uninterrupted run."""

import pytest

from audiozen_core.data import seeded
from tests.reliability.matrix import ROWS, checkpoints, end_difference

# Other tests cover the same code. Measuring the coverage here too would take longer than the tests themselves.
pytestmark = pytest.mark.no_cover

# By default a row resumes from every fourth stop, and every other row saves in the background. Rows that other rows, or
# tests of their own, nearly cover are among the slow cases, which resume each row from every stop, with and without
# saving in the background.
COVERED = {"float32", "bfloat16", "clipping", "per step", "ema", "workers", "told epochs, joined, sampler, workers"}
assert COVERED.issubset(ROWS)
CASES = [
    pytest.param(name, index % 2 == 0, 4, id=f"{name}, every fourth")
    for index, name in enumerate(ROWS)
    if name not in COVERED
]
CASES += [
    pytest.param(
        name, background, 1, id=f"{name}, {'in the background' if background else 'at once'}", marks=pytest.mark.slow
    )
    for name in ROWS
    for background in (False, True)
]


def whole_and_stops(row, folder, asynchronous):
    """Returns the final state of an uninterrupted run, and the checkpoints of a run that saves after each step."""
    whole = row.run(folder / "whole", asynchronous=asynchronous)
    saving = row.run(folder / "saving", every=1, asynchronous=asynchronous)
    assert end_difference(whole, saving) is None, "saving has changed the result"
    return whole, checkpoints(folder / "saving")


@pytest.mark.parametrize(("name", "asynchronous", "stride"), CASES)
def test_run_resumed_after_any_step_ends_with_the_same_state(tmp_path, name, asynchronous, stride):
    row = ROWS[name]
    whole, stops = whole_and_stops(row, tmp_path, asynchronous)
    chosen = stops[list(ROWS).index(name) % stride :: stride]
    assert len(chosen) >= 2
    for index, (stop, state) in enumerate(chosen):
        if state["progress"]["epoch"] == whole["progress"]["epoch"]:
            continue  # The run has ended.
        resumed = row.run(tmp_path / f"resumed {index}", state=state)
        assert end_difference(whole, resumed) is None, f"stopped at {stop}"


# By default, one part of the state is tested in every third row. The slow cases test all of them.
VITAL = [
    pytest.param(name, owner, marks=[pytest.mark.slow] if index or number % 3 else [])
    for number, (name, row) in enumerate(ROWS.items())
    for index, owner in enumerate(row.vital)
]


@pytest.mark.parametrize(("name", "owner"), VITAL)
def test_these_tests_detect_a_missing_part_of_the_state(tmp_path, name, owner):
    row = ROWS[name]
    whole, stops = whole_and_stops(row, tmp_path, asynchronous=False)
    fresh = row.fresh(tmp_path / "fresh")[owner]
    middle = [state for stop, state in stops if state["progress"]["epoch"] == 1 and state["progress"]["batch"]]
    state = {**middle[0], owner: fresh}
    assert end_difference(whole, row.run(tmp_path / "incomplete", state=state)) is not None


@pytest.mark.parametrize("name", ["float32", "accumulation 3"])
def test_run_stopped_twice_ends_with_the_same_state(tmp_path, name):
    row = ROWS[name]
    whole, stops = whole_and_stops(row, tmp_path, asynchronous=True)
    for first in (1, 6):
        again = tmp_path / f"again {first}"
        row.run(again, state=stops[first][1], every=1, asynchronous=True)
        for index, (stop, state) in enumerate(checkpoints(again)[:-1:3]):
            resumed = row.run(tmp_path / f"twice {first} {index}", state=state)
            assert end_difference(whole, resumed) is None, f"stopped at {stops[first][0]} and {stop}"


def test_these_tests_detect_a_part_of_the_state_from_an_earlier_stop(tmp_path):
    row = ROWS["float32"]
    whole, stops = whole_and_stops(row, tmp_path, asynchronous=True)
    row.run(tmp_path / "again", state=stops[1][1], every=1, asynchronous=True)
    second = checkpoints(tmp_path / "again")[3][1]
    mixed = {**second, "optimizer": stops[1][1]["optimizer"]}
    assert end_difference(whole, row.run(tmp_path / "mixed", state=mixed)) is not None


def test_these_tests_detect_items_that_depend_on_worker_random_generators(tmp_path, monkeypatch):
    monkeypatch.setattr(seeded, "seed_from", lambda *numbers: None)
    row = ROWS["workers"]
    whole = row.run(tmp_path / "whole")
    row.run(tmp_path / "saving", every=1)
    middle = next(state for _, state in checkpoints(tmp_path / "saving") if state["progress"]["batch"])
    assert end_difference(whole, row.run(tmp_path / "resumed", state=middle)) is not None


def test_these_tests_detect_different_data(tmp_path):
    row = ROWS["float32"]
    assert end_difference(row.run(tmp_path / "a"), row.run(tmp_path / "b", seed=2)) is not None


@pytest.mark.parametrize("name", [name for name in ROWS if name.startswith("told epochs")])
def test_these_tests_use_data_that_depend_on_the_epoch(tmp_path, name, monkeypatch):
    whole = ROWS[name].run(tmp_path / "whole")
    for module in ("seeded", "sampling"):
        monkeypatch.setattr(f"audiozen_core.data.{module}.propagate_epoch", lambda *_, **__: None)
    assert end_difference(whole, ROWS[name].run(tmp_path / "untold")) is not None
