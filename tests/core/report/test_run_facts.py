"""What the page says about the environment of a run."""

from __future__ import annotations

from audiozen_core.experiment.session_file import ModeRecord, SessionRecord, write_session
from audiozen_core.report.run_facts import read_facts
from audiozen_core.report.subjects import ReportRun


def add_start(folder, time, mode, *, device, python, versions, **values):
    """Writes the record and the session of a start, as a run does."""
    record = folder / f"config__2026_11_27--{time}.toml"
    record.write_text(f"# modes: {mode}\n# python: {python}\n# versions: {versions}\n\n[meta]\nseed = 1\n")
    done = ModeRecord(mode, 60.0, "finished", "", epoch=2, step=8, best_score=None, best_epoch=0)
    session = SessionRecord(
        started=f"2026-11-27T{time.replace('_', ':')}+00:00", host=f"host-of-{mode}", pid=1, job="", processes=1,
        device=device, device_name="", modes=(mode,), record=record.name, max_epochs=2, monitor="score",
        higher_is_better=True, **{"done": (done,), "ending": "finished", **values},
    )  # fmt: skip
    write_session(folder / f"session__2026_11_27--{time}__1.json", session)


def facts_of(folder):
    return read_facts(ReportRun("run", "run", 0, folder, None))


def test_environment_is_that_of_the_training_and_not_of_a_later_test(tmp_path):
    add_start(tmp_path, "10_00_00", "train", device="cuda:0", python="3.12", versions="torch 2.13.0")
    add_start(tmp_path, "11_00_00", "test", device="cpu", python="3.10", versions="torch 2.12.0")
    found = facts_of(tmp_path)
    assert (found.facts["device"], found.facts["machine"]) == ("cuda:0", "host-of-train")
    assert (found.facts["Python"], found.versions) == ("3.12", {"torch": "2.13.0"})
    assert [start.modes for start in found.starts] == ["train", "test"]


def test_environment_of_a_folder_that_only_tests_is_that_of_its_newest_test(tmp_path):
    for time, device in (("10_00_00", "cuda:0"), ("11_00_00", "cpu")):
        add_start(tmp_path, time, "test", device=device, python="3.12", versions="torch 2.13.0")
    assert facts_of(tmp_path).facts["device"] == "cpu"
