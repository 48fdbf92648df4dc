"""The curves are what `metrics.jsonl` has, also while it is being written."""

import json
import math

import pytest

from audiozen_core.report.history import read_history


@pytest.fixture
def history(tmp_path):
    def of(*records, rest=""):
        (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)) + "\n" + rest)
        return read_history(tmp_path)

    return of


def record(step, epoch, **values):
    return {"time": "2026-01-01T00:00:00+00:00", "epoch": epoch, "step": step, **values}


def test_curves_of_a_run(history):
    last = record(20, 2, loss=1.5, **{"train/loss": 1.6})
    found = history(record(5, 1, loss=3.0), record(10, 1, loss=2.0, lr=0.1), last)
    assert (found["loss"].steps, found["loss"].values) == ((5, 10, 20), (3.0, 2.0, 1.5))
    assert found["loss"].epochs == (0.5, 1.0, 2.0)
    assert (found["lr"].steps, found["lr"].epochs) == ((10,), (1.0,))


def test_epoch_that_still_runs_counts_as_long_as_the_one_before_it(history):
    ended = [record(5, 1, loss=3.0), record(10, 1, loss=2.0, **{"train/loss": 2.5})]
    assert history(*ended, record(12, 2, loss=1.5))["loss"].epochs == (0.5, 1.0, 1.2)
    assert history(*ended, record(22, 2, loss=1.5))["loss"].epochs == (0.5, 1.0, 2.0)
    assert history(*ended, record(12, 2, loss=1.5, **{"train/loss": 2.5}))["loss"].epochs == (0.5, 1.0, 2.0)


def test_line_that_is_still_being_written_is_left_out(history):
    found = history(record(1, 1, loss=3.0), rest='{"epoch": 1, "step": 2, "lo')
    assert found["loss"].values == (3.0,)


def test_records_of_tests_and_of_validations_alone_are_points_of_no_curve(history):
    found = history(
        record(1, 1, **{"validate/score": 1.0}),
        record(1, 1, checkpoint="epoch_0001", **{"validate/score": 9.0}),
        record(1, 1, **{"test/si_sdr": 5.0}),
    )
    assert {name: curve.values for name, curve in found.items()} == {"validate/score": (1.0,)}


def test_value_that_was_not_finite_is_a_gap_and_is_counted(history):
    curve = history(record(1, 1, loss=1.0), record(2, 1, loss=None), record(3, 1, loss=2.0))["loss"]
    assert math.isnan(curve.values[1])
    assert (curve.not_finite, curve.recorded) == (1, 3)


def test_step_that_was_repeated_counts_once(history):
    assert history(record(1, 1, loss=9.0), record(1, 1, loss=1.0))["loss"].values == (1.0,)


def test_long_curve_keeps_its_peaks(history):
    records = [record(step, 1, loss=1 + step % 7 / 100) for step in range(1, 5001)]
    records[2345]["loss"], records[4000]["loss"] = 99.0, -7.0
    curve = history(*records)["loss"]
    assert (max(curve.values), min(curve.values), curve.recorded) == (99.0, -7.0, 5000)
    assert len(curve.values) <= 1202
    assert (curve.steps[0], curve.steps[-1]) == (1, 5000)
    assert list(curve.steps) == sorted(set(curve.steps))
    assert all(value == records[step - 1]["loss"] for step, value in zip(curve.steps, curve.values, strict=True))


def test_run_without_records(tmp_path):
    assert read_history(tmp_path) == {}
