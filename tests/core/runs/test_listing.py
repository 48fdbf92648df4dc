"""Which runs are in a folder, in which order they are listed, and which of their settings differ."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from audiozen_core.errors import RunError
from audiozen_core.experiment.session_file import SESSIONS, read_sessions, write_session
from audiozen_core.runs.find_runs import find_runs
from audiozen_core.runs.forms import as_csv, as_json, as_markdown, as_table, plain
from audiozen_core.runs.listing import ConfigCache, RunList, list_runs
from tests.tiny_experiment import TinyExperiment


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    tiny = TinyExperiment(tmp_path_factory.mktemp("trained"))
    tiny.run(modes=("train", "test"))
    return tiny.folder / "exp" / "tiny"


@pytest.fixture
def folder(trained, tmp_path):
    """Creates a folder with three runs: `a`, `sweep/b` with another rate, and `sweep/c` that has failed."""
    exp = tmp_path / "exp"
    for name in ("a", "sweep/b", "sweep/c"):
        shutil.copytree(trained, exp / name, symlinks=True)
    set_value(exp / "sweep/b", "lr = 0.1", "lr = 0.2")
    change(exp / "sweep/b", best_score=1.0, seconds=100.0)
    change(exp / "sweep/c", ending="failed", reason="ValueError: [red]bad[/red]\nmore\x1b[2J", best_score=None)
    return exp


def set_value(run, old, new):
    (record,) = run.glob("config__*.toml")
    assert old in record.read_text()
    record.write_text(record.read_text().replace(old, new))


def change(run, **values):
    (path,) = run.glob(SESSIONS)
    (session,) = read_sessions(run)
    write_session(path, replace(session, done=(replace(session.done[0], **values), *session.done[1:])))


def listed(*folders, **options):
    return list_runs(folders, cache=ConfigCache(), **options)


def names(*folders, **options):
    return [each.name for each in listed(*folders, **options).runs]


def test_runs_are_found_in_all_folders_below(folder):
    assert names(folder) == ["a", "sweep/b", "sweep/c"]
    assert names(folder / "sweep") == ["b", "c"]
    assert names(folder / "a", folder / "sweep") == [str(folder / name) for name in ("a", "sweep/b", "sweep/c")]
    assert names(folder, folder) == [str(folder / name) for name in ("a", "sweep/b", "sweep/c")]
    assert names(folder / "a") == [str(folder / "a")]


def test_run_within_a_run_is_found_and_its_results_are_not_searched(folder, trained):
    shutil.copytree(trained, folder / "a" / "nested", symlinks=True)
    shutil.copytree(trained, folder / "a" / "test" / "not a run", symlinks=True)
    shutil.copytree(trained, folder / ".hidden", symlinks=True)
    assert names(folder) == ["a", "a/nested", "sweep/b", "sweep/c"]


def test_links_are_followed_and_circles_end(folder):
    (folder / "sweep" / "up").symlink_to(folder)
    (folder / "itself").symlink_to("itself")
    (folder / "gone").symlink_to("nowhere")
    assert names(folder) == ["a", "sweep/b", "sweep/c"]
    (folder.parent / "other").mkdir()
    (folder.parent / "other" / "linked").symlink_to(folder / "a")
    assert names(folder.parent / "other") == ["linked"]


def test_folder_that_can_not_be_read_is_reported(folder, monkeypatch):
    real = os.scandir

    def scandir(path):
        if Path(path).name == "sweep":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    found = listed(folder)
    assert [each.name for each in found.runs] == ["a"]
    assert found.warnings == [f"{folder / 'sweep'}: Permission denied"]


def test_folder_without_runs_is_an_error_that_says_what_a_run_is(tmp_path):
    with pytest.raises(RunError, match="no runs") as error:
        listed(tmp_path)
    assert "run.lock" in error.value.remedy
    assert "config__*.toml" in error.value.remedy
    with pytest.raises(RunError, match="is not a folder"):
        listed(tmp_path / "missing")


@pytest.mark.parametrize("name", ["run.lock", "config__x.toml", "session__x.json"])
def test_one_of_the_files_is_enough(tmp_path, name):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / name).touch()
    (tmp_path / "y" / name).mkdir(parents=True)
    assert list(find_runs(tmp_path, [])) == [tmp_path / "x"]


def test_orders(folder):
    assert names(folder, order="best") == ["sweep/b", "a", "sweep/c"]
    assert names(folder, order="time")[0] == "sweep/b"
    late = datetime.now().timestamp() + 100
    os.utime(folder / "sweep/c/metrics.jsonl", (late, late))
    assert names(folder, order="written")[0] == "sweep/c"


def test_lower_scores_are_better_if_the_run_says_so(folder):
    for run in folder.rglob("session__*.json"):
        (session,) = read_sessions(run.parent)
        write_session(run, replace(session, higher_is_better=False))
    assert names(folder, order="best") == ["a", "sweep/b", "sweep/c"]


def test_only_runs_in_a_state(folder):
    assert names(folder, states=("failed",)) == ["sweep/c"]
    assert names(folder, states=("running",)) == []
    assert as_table(listed(folder, states=("running",))).notes == ["no runs in these states"]


def test_only_settings_that_differ_between_the_runs_shown_are_listed(folder):
    found = listed(folder)
    assert found.varying_keys == ["optimizer.args.lr"]
    assert [each.settings["optimizer.args.lr"] for each in found.runs] == ["0.1", "0.2", "0.1"]
    assert listed(folder, states=("failed",)).varying_keys == []


def test_configuration_that_is_broken_or_missing_hides_no_run(folder):
    (record,) = (folder / "a").glob("config__*.toml")
    record.write_text("[broken")
    (record,) = (folder / "sweep/c").glob("config__*.toml")
    record.unlink()
    found = listed(folder)
    assert len(found.runs) == 3
    assert found.varying_keys == []


def test_table(folder):
    table = as_table(listed(folder), now=datetime.now(timezone.utc) + timedelta(hours=3))
    headings = "run state epoch best at last test time written lr reason"
    assert list(table.headings) == headings.split()
    row = dict(zip(table.headings, table.rows[1], strict=True))
    assert (row["run"], row["state"], row["epoch"], row["best"], row["lr"]) == (
        "sweep/b",
        "finished",
        "2/2",
        "1",
        "0.2",
    )
    assert row["test"].startswith("loss ")
    assert (row["time"], row["written"]) == ("0:01:40", "3 h ago")
    assert table.rows[2][table.headings.index("reason")] == "ValueError: [red]bad[/red]"
    assert table.notes == ["3 runs: 2 finished, 1 failed; best and last: score"]


def test_table_that_does_not_fit_leaves_settings_out_and_cuts_reasons(folder):
    set_value(folder / "a", "max_epochs = 2", "max_epochs = 200")
    set_value(folder / "a", "in_features = 4", "in_features = 40")
    change(folder / "sweep/c", reason="x" * 300)
    wide, narrow = as_table(listed(folder)), as_table(listed(folder), width=110)
    assert {"lr", "max_epochs", "in_features"} <= set(wide.headings)
    assert "in_features" not in narrow.headings
    assert "model.args.in_features" in narrow.notes[-1]
    assert max(len(row[-1]) for row in narrow.rows) < 300


def test_settings_of_one_name_have_their_whole_keys(folder):
    for run, batch_size in (("a", 3), ("sweep/b", 1)):
        set_value(folder / run, "batch_size = 2", f"batch_size = {batch_size}")
    headings = as_table(listed(folder)).headings
    assert {"dataset.dataloader.batch_size", "validate_dataset.dataloader.batch_size", "lr"} <= set(headings)


def test_json_has_everything_and_no_rounding(folder):
    data = json.loads(as_json(listed(folder)))
    assert [run["run"] for run in data] == ["a", "sweep/b", "sweep/c"]
    (session,) = read_sessions(folder / "a")
    assert data[0]["best"]["score"] == session.done[0].best_score
    assert data[0]["tests"][0]["scalars"] == session.done[1].scalars
    assert data[1]["settings"] == {"optimizer.args.lr": "0.2"}
    assert data[2]["reason"] == "ValueError: [red]bad[/red]\nmore\x1b[2J"
    assert data[2]["best"] is None


def test_score_that_is_not_finite_is_null_in_json_and_empty_in_csv(folder):
    with (folder / "a/metrics.jsonl").open("a") as file:
        file.write('{"epoch": 2, "step": 6, "validate/score": null}\n')
    assert json.loads(as_json(listed(folder)))[0]["last"] == {"score": None, "epoch": 2}
    assert as_table(listed(folder)).rows[0][5] == "nan"
    assert next(csv.DictReader(io.StringIO(as_csv(listed(folder)))))["last"] == ""


def test_csv(folder):
    rows = list(csv.DictReader(io.StringIO(as_csv(listed(folder)))))
    assert [row["run"] for row in rows] == ["a", "sweep/b", "sweep/c"]
    assert [row["optimizer.args.lr"] for row in rows] == ["0.1", "0.2", "0.1"]
    assert (rows[1]["best"], rows[1]["best_epoch"], rows[1]["tested"]) == ("1.0", "2", "loss")
    assert rows[2]["best"] == ""


def test_markdown_escapes_bars(folder):
    change(folder / "sweep/c", reason="a | b")
    lines = as_markdown(listed(folder)).splitlines()
    assert lines[0].startswith("| run ")
    assert r"a \| b" in lines[4]


def test_names_can_not_control_the_terminal(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "exp" / "[red]\x1b[2Jx", symlinks=True)
    shutil.copytree(trained, tmp_path / "exp" / "b", symlinks=True)
    assert as_table(listed(tmp_path / "exp")).rows[0][0] == r"[red]\x1b[2Jx"
    assert plain(os.fsdecode(b"\xff")) == r"\udcff"


def test_configuration_is_read_once(folder, monkeypatch):
    cache = ConfigCache()
    first = list_runs([folder], cache=cache)
    for record in folder.rglob("config__*.toml"):
        record.write_text("never read again")
    assert list_runs([folder], cache=cache).varying_keys == first.varying_keys == ["optimizer.args.lr"]


def test_time_that_is_too_short_is_marked(folder):
    (run,) = listed(folder / "sweep/b").runs
    runs = RunList([replace(run, run=replace(run.run, is_time_partial=True))], [], [])
    table = as_table(runs)
    assert table.rows[0][table.headings.index("time")] == ">0:01:40"
    assert table.notes == ["1 run: 1 finished; best and last: score"]
    assert json.loads(as_json(runs))[0]["training_seconds_partial"] is True
