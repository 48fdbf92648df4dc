"""The table of `make bench`: both sides take turns, the best peer counts, and a goal that is missed says so."""

import json
import subprocess
import sys

import pytest

from benchmarks.__main__ import measure_apart
from benchmarks.measuring import Goal, Spread, alternate, compare
from benchmarks.table import cells, for_page

MACHINE = {"cores": 2, "processor": "a processor", "python": "3.11"}


def costs(*values):
    """A side whose rounds cost these values."""
    left = list(values)
    return lambda: left.pop(0)


def test_every_other_round_has_the_reverse_order():
    order = []

    def side(name):
        return lambda: order.append(name) or 1.0

    alternate(side("ours"), {"peer": side("peer")}, rounds=2, warm_up=1)
    assert order == ["ours", "peer", "peer", "ours", "ours", "peer"]


def test_the_ratio_is_that_of_each_round():
    row = compare(
        "a row", costs(0, 1, 20, 3), {"peer": costs(0, 1, 10, 6)}, unit="s", goal=Goal("at most", 1), rounds=3
    )
    assert row.ratio.median == 1
    assert row.ours.median / row.peer.median == 0.5  # what the ratio of the medians would have been
    assert row.difference == Spread(0, -1.5, 5)


@pytest.mark.parametrize(("best", "name"), [("lowest", "quick"), ("highest", "slow")])
def test_the_best_peer_counts(best, name):
    peers = {"slow": costs(4, 4), "quick": costs(2, 2)}
    row = compare("a row", costs(1, 1), peers, unit="s", goal=Goal("at most", 1), rounds=1, best=best)
    assert row.peer_name == name


@pytest.mark.parametrize(
    ("goal", "met"),
    [
        (Goal("at most", 0.5), True),
        (Goal("at most", 0.4), False),
        (Goal("at least", 0.5), True),
        (Goal("at least", 0.6), False),
        (Goal("at most", 1, "ours"), True),
        (Goal("at most", 0.9, "ours"), False),
        (Goal("at most", -1, "difference"), True),
        (Goal("at most", -1.1, "difference"), False),
    ],
)
def test_a_goal_is_about_one_of_the_figures(goal, met):
    row = compare("a row", costs(1), {"peer": costs(2)}, unit="s", goal=goal, rounds=1, warm_up=0).as_json()
    assert row["met"] is met
    assert cells(row)[-1] == ("yes" if met else "no")
    # The table shows the figure that the goal is about: our cost, the difference or the ratio.
    shown = {"ours": "1 s", "difference": "-1 s", "ratio": "0.5"}
    assert shown[goal.figure] in cells(row)


def test_a_row_may_have_no_goal():
    row = compare("a row", costs(1), {"peer": costs(2)}, unit="s", goal=None, rounds=1, warm_up=0).as_json()
    assert row["met"] is None
    assert cells(row)[-2:] == ("", "")


def test_a_row_that_fails_says_why():
    (row,) = measure_apart("no_such_row", None)
    assert "no such row: no_such_row" in row["failed"]
    assert "not measured" in for_page([row], MACHINE)


def test_a_row_that_takes_too_long_is_ended():
    (row,) = measure_apart("sdnn_step", None, limit=0.05)
    assert row["failed"] == "more than 0.05 s"
    assert "not measured | more than 0.05 s" in for_page([row], MACHINE)


@pytest.mark.slow
def test_the_command_measures_a_row_and_writes_it(repository, tmp_path):
    options = ["--rounds", "2", "--json", tmp_path / "rows.json", "--markdown", tmp_path / "rows.md"]
    command = [sys.executable, "-m", "benchmarks", "sdnn_step", *options]
    completed = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=True)
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert len(rows) == 2
    for row in rows:  # the network and its bound have the products of their peer, and more
        assert row["ours"]["median"] > row["peer"]["median"] > 0
        assert row["what"].split(",")[0] in completed.stdout  # long names are wrapped
        assert f"| {row['what']}" in (tmp_path / "rows.md").read_text()
