"""The results of a run are those of its latest finished test."""

import os

import pytest

from audiozen_core.errors import RunError
from audiozen_core.results.result_folders import find_audio, find_results


def make_test(run, name, sets=("0",), audio=True, age=0):
    for dataset in sets:
        folder = run / "test" / name / dataset
        (folder / "audio" if audio else folder).mkdir(parents=True)
        (folder / "scores.csv").write_text("id\n")
        (folder / "scores.json").write_text("{}")
        os.utime(folder / "scores.csv", (1e9 - age, 1e9 - age))
    return run / "test" / name


@pytest.fixture
def run(tmp_path):
    (tmp_path / "exp" / "checkpoints").mkdir(parents=True)
    return tmp_path / "exp"


def test_latest_finished_test_of_a_run_is_found(run):
    make_test(run, "best_epoch_0002", age=5)
    latest = make_test(run, "best_epoch_0001", age=1)
    make_test(run, "best_epoch_0003.incomplete")
    assert find_results(run) == latest / "0"
    assert find_audio(run) == latest / "0" / "audio"
    (run / "test" / "best_epoch_0002" / "notes.txt").touch()  # changes the time of the folder, and not of the scores
    assert find_results(run) == latest / "0"
    assert find_results(latest) == find_results(latest / "0") == find_results(latest / "0" / "audio") == latest / "0"


def test_run_without_a_test_says_how_to_test(run):
    with pytest.raises(RunError, match="has no test"):
        find_results(run)
    make_test(run, "best_epoch_0003.incomplete")
    with pytest.raises(RunError, match="only an incomplete test"):
        find_results(run)
    with pytest.raises(RunError, match="are incomplete"):
        find_results(run / "test" / "best_epoch_0003.incomplete" / "0")


def test_test_of_several_data_sets_must_be_named(run):
    folder = make_test(run, "best", sets=("dns", "vbd"))
    with pytest.raises(RunError, match="2 data sets") as caught:
        find_results(run)
    assert str(folder / "vbd") in caught.value.remedy


def test_results_without_audio_and_other_folders(run, tmp_path):
    make_test(run, "best", audio=False)
    with pytest.raises(RunError, match="have no audio"):
        find_audio(run)
    (tmp_path / "mine").mkdir()
    assert find_results(tmp_path / "mine") is None
    (tmp_path / "mine" / "scores.csv").write_text("id\n")
    assert find_audio(tmp_path / "mine") is None
