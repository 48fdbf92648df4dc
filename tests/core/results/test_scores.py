"""Scores are written, read back, averaged and grouped."""

import csv
import json
import math

import pytest

from audiozen.metric import SiSdr, Stoi
from audiozen_core.errors import DataError, RunError
from audiozen_core.results.reading import read_scores
from audiozen_core.results.records import FileScores, MetricInfo
from audiozen_core.results.scores import Scores, sort_condition_values
from audiozen_core.scoring.rating import RatedFile
from audiozen_core.scoring.report import Report
from audiozen_core.storage import atomic

NAN = math.nan
METRICS = (
    MetricInfo("si_sdr", "SI-SDR", "dB", True, "SI-SDR: audiozen 1.0; 16000 Hz", {"packages": {"audiozen": "1.0"}}),
    MetricInfo("pesq", "PESQ WB", "", True, "PESQ WB: pesq 0.0.4; 16000 Hz", {"packages": {"pesq": "0.0.4"}}),
)


@pytest.fixture
def scores():
    files = (
        FileScores("a", {"si_sdr": 1 / 3, "pesq": 1.5}, {"snr": "10", "voice": "x"}),
        FileScores("b", {"si_sdr": 5.0, "pesq": NAN}, {"snr": "0", "voice": "y"}, {"pesq": "no utterance"}),
        FileScores("c", {"si_sdr": 7.0, "pesq": 2.5}, {"snr": "10", "voice": ""}),
        FileScores(
            "d", {"si_sdr": NAN, "pesq": NAN}, {"snr": "2.5", "voice": "x"}, dict.fromkeys(("si_sdr", "pesq"), "silent")
        ),
    )
    return Scores(METRICS, files, ("snr", "voice"), {"enhanced": "out"}, ("a finding",), {"dnsmos": "not installed"})


def test_csv_has_a_row_for_each_file_with_conditions_exact_values_and_notes(scores, tmp_path):
    scores.write(tmp_path / "new" / "folder")
    with (tmp_path / "new" / "folder" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "snr", "voice", "si_sdr", "pesq", "note"]
    assert float(rows[0]["si_sdr"]) == 1 / 3
    assert [rows[1]["pesq"], rows[1]["note"]] == ["", "pesq: no utterance"]
    assert rows[3]["note"] == "silent"
    defined = json.loads((tmp_path / "new" / "folder" / "scores.metrics.json").read_text())
    assert defined["pesq"] == {"packages": {"pesq": "0.0.4"}}


def test_json_has_means_by_condition_intervals_identities_and_missing_files(scores, tmp_path):
    scores.write(tmp_path)
    content = json.loads((tmp_path / "scores.json").read_text())
    assert content["all"]["pesq"] == {"mean": 2.0, "low": 1.5, "high": 2.5, "count": 2, "missing": 2}
    assert [(level["snr"], level["files"]) for level in content["by_snr"]] == [("0", 1), ("2.5", 1), ("10", 2)]
    assert content["by_voice"][-1]["voice"] is None
    assert content["by_snr"][2]["means"]["si_sdr"]["mean"] == pytest.approx((1 / 3 + 7) / 2)
    assert content["metrics"]["pesq"]["packages"] == {"pesq": "0.0.4"}
    assert content["missing"]["pesq"] == {"b": "no utterance", "d": "silent"}
    assert content["interval"]["method"] == "BCa bootstrap"


def test_what_is_written_is_read_back_exactly(scores, tmp_path):
    scores.write(tmp_path)
    for path in (tmp_path, tmp_path / "scores.csv"):
        read = read_scores(path)
        assert [metric.name for metric in read.metrics] == ["si_sdr", "pesq"]
        assert [file.id for file in read.files] == ["a", "b", "c", "d"]
        assert [repr(file.values) for file in read.files] == [repr(file.values) for file in scores.files]
        assert [dict(file.conditions) for file in read.files] == [dict(file.conditions) for file in scores.files]
        assert [dict(file.reasons) for file in read.files] == [dict(file.reasons) for file in scores.files]
        assert read.table() == scores.table()


def test_table_has_a_section_for_each_condition_and_lists_what_is_not_in_the_mean(scores):
    lines = scores.table().splitlines()
    assert lines[0].split("  ")[0] == "condition"
    assert [line.split("  ")[0] for line in lines[1:12]] == [
        "---------", "snr 0", "snr 2.5", "snr 10", "---------", "voice x", "voice y", "voice –", "---------", "all", ""
    ]  # fmt: skip
    assert "4.11 [0.33, 6.33] (3)" in lines[10]
    assert "2.000 [1.500, 2.500] (2)" in lines[10]
    assert "(" not in lines[4]  # all files with an SNR of 10 dB have values
    assert "in parentheses: the number of files in the mean, if some files of the row have no value" in lines
    assert "PESQ WB: 2 of 4 files have no value and are not in the mean: b (no utterance); d (silent)" in lines
    assert "PESQ WB: pesq 0.0.4; 16000 Hz" in lines


def test_table_without_conditions_has_a_row_for_each_metric(scores):
    lines = Scores(METRICS, scores.files).table().splitlines()
    assert lines[0].split() == ["metric", "files", "mean", "95", "%", "interval"]
    assert lines[3].split() == ["PESQ", "WB", "2", "2.000", "[1.500,", "2.500]"]
    one = Scores(METRICS[:1], scores.files[:1]).table().splitlines()
    assert one[2].split() == ["SI-SDR", "in", "dB", "1", "0.33"]


def test_failed_write_leaves_the_old_files(scores, tmp_path, monkeypatch):
    scores.write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(atomic.os, "write", full)
    with pytest.raises(OSError, match="No space"):
        Scores(METRICS, scores.files[:1]).write(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_scores_of_a_test_are_read_by_state(tmp_path):
    before, after = {"si_sdr": 1.0, "stoi": 0.5}, {"si_sdr": 5.0, "stoi": 0.7}
    silent, also_silent = {"si_sdr": 2.0, "stoi": NAN}, {"si_sdr": 6.0, "stoi": NAN}
    rows = [
        RatedFile("a", {"noisy": before, "enhanced": after}, group=0.0),
        RatedFile("b", {"noisy": silent, "enhanced": also_silent}, {"clean": "clean is silent"}, 5.0),
    ]
    report = Report([SiSdr(), Stoi()], rows)
    report.write_csv(tmp_path / "scores.csv")
    report.write_json(tmp_path / "scores.json")
    read = read_scores(tmp_path)
    assert [file.values["si_sdr"] for file in read.files] == [5.0, 6.0]
    assert [file.conditions for file in read.files] == [{"snr": "0"}, {"snr": "5"}]
    assert read.files[1].reasons == {"stoi": "clean is silent"}
    assert read.metrics[0].label == "SI-SDR"
    assert [file.values["si_sdr"] for file in read_scores(tmp_path, state="noisy").files] == [1.0, 2.0]
    with pytest.raises(DataError, match="no state `clean`"):
        read_scores(tmp_path, state="clean")


def test_csv_of_another_program_has_numbers_as_metrics_and_words_as_conditions(tmp_path):
    (tmp_path / "theirs.csv").write_text("file,noise,snr,PESQ\nx.wav,babble,5,2.5\ny.wav,car,0,\n", encoding="utf-8")
    read = read_scores(tmp_path / "theirs.csv")
    assert [metric.name for metric in read.metrics] == ["snr", "PESQ"]
    assert read.conditions == ("noise",)
    assert math.isnan(read.files[1].values["PESQ"])
    told = read_scores(tmp_path / "theirs.csv", conditions=["snr"])
    assert ([metric.name for metric in told.metrics], told.conditions) == (["PESQ"], ("noise", "snr"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id,pesq\n", "has no rows"),
        ("id,pesq\na,1\na,2\n", "two rows for `a`"),
        ("id,pesq\na,1,2\n", "3 cells, but the header has 2"),
        ("id,noise\na,babble\n", "no column of numbers"),
    ],
)
def test_bad_csv_is_refused(tmp_path, text, message):
    (tmp_path / "bad.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_scores(tmp_path / "bad.csv")


def test_digits_with_underscores_are_words(tmp_path):
    (tmp_path / "a.csv").write_text("id,take,pesq\na,1_2,2.0\nb,3_4,2.5\n")
    found = read_scores(tmp_path / "a.csv")
    assert ([metric.name for metric in found.metrics], found.conditions) == (["pesq"], ("take",))
    assert sort_condition_values(["12", "1_2", "3"]) == ["3", "12", "1_2"]
    (tmp_path / "b.csv").write_text("id,take\na,1_2\n")
    with pytest.raises(DataError, match="no column of numbers"):
        read_scores(tmp_path / "b.csv")


def test_mean_that_is_rounded_to_zero_has_no_sign():
    files = tuple(FileScores(name, {"si_sdr": value}) for name, value in (("a", -0.001), ("b", -0.002)))
    table = Scores(METRICS[:1], files).table()
    assert "0.00   [0.00, 0.00]" in table
    assert "-0.00" not in table


def test_folder_without_scores_says_how_to_make_them(tmp_path):
    with pytest.raises(DataError, match="has no scores") as caught:
        read_scores(tmp_path)
    assert "audiozen evaluate" in caught.value.remedy


def test_unknown_metric_and_form_are_named():
    scores = Scores((MetricInfo("si_sdr"),), (FileScores("a", {"si_sdr": 1.0}),))
    with pytest.raises(RunError, match="the scores have no metric `si_sdx`; did you mean `si_sdr`") as caught:
        scores.mean("si_sdx")
    assert caught.value.remedy == "use one of si_sdr"
    with pytest.raises(RunError, match="`html` is not a form of a table") as caught:
        scores.table("html")
    assert caught.value.remedy == "use one of text, latex, markdown"


def test_every_file_that_is_written_is_returned(tmp_path):
    written = Scores((MetricInfo("si_sdr"),), (FileScores("a", {"si_sdr": 1.0}),)).write(tmp_path / "new")
    assert sorted(written) == sorted((tmp_path / "new").iterdir())
