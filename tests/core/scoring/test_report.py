"""The result table, its CSV and its summary. Means exclude files without a value; the report counts these files."""

from __future__ import annotations

import csv
import json
import math

import pytest
from rich.console import Console

from audiozen.metric import SiSdr, Stoi
from audiozen_core.errors import DataError, RunError
from audiozen_core.scoring.rating import RatedFile
from audiozen_core.scoring.report import Report
from audiozen_core.storage import atomic
from tests.core.scoring.shown import shown

NAN = math.nan


def report(*rows: tuple[str, float | None, float, float, float, float]) -> Report:
    """Creates a report of SI-SDR and STOI. A row has an ID, an SNR, and both metrics before and after enhancement."""
    made = []
    for name, snr, si_sdr, si_sdr_after, stoi, stoi_after in rows:
        noisy, enhanced = {"si_sdr": si_sdr, "stoi": stoi}, {"si_sdr": si_sdr_after, "stoi": stoi_after}
        made.append(RatedFile(name, {"noisy": noisy, "enhanced": enhanced}, group=snr))
    return Report([SiSdr(), Stoi()], made)


@pytest.fixture
def four_files() -> Report:
    return report(
        ("a", 5.0, 5.0, 10.0, 0.80, 0.90),
        ("b", 0.0, 0.0, 4.0, NAN, NAN),
        ("c", 0.0, 1.0, 7.0, 0.70, 0.75),
        ("d", 5.0, 6.0, 13.0, 0.85, 0.95),
    )


def test_table_shows_noisy_and_enhanced_scores_by_snr_and_overall(four_files):
    lines = [line.split() for line in shown(four_files).splitlines()]
    assert ["0", "2", "0.50", "5.50", "+5.00", "0.700", "0.750", "+0.050"] in lines
    assert ["5", "2", "5.50", "11.50", "+6.00", "0.825", "0.925", "+0.100"] in lines
    assert ["all", "4", "3.00", "8.50", "+5.50", "0.783", "0.867", "+0.083"] in lines


@pytest.mark.parametrize("value", [math.inf, -math.inf, NAN])
def test_files_whose_snr_is_not_finite_have_a_row_of_their_own(tmp_path, value):
    made = report(
        ("a", 5.0, 5.0, 10.0, 0.8, 0.9),
        ("b", value, 8.0, 9.0, 0.9, 0.9),
        ("c", 0.0, 1.0, 7.0, 0.7, 0.8),
        ("d", 0.0, 3.0, 5.0, 0.7, 0.8),
        ("e", 5.0, 5.0, 10.0, 0.8, 0.9),
        ("f", value, 6.0, 9.0, 0.9, 0.9),
    )
    lines = [line.split() for line in shown(made).splitlines()]
    assert ["inf,", "NaN", "2", "7.00", "9.00", "+2.00", "0.900", "0.900", "0.000"] in lines
    assert ["0", "2", "2.00", "6.00", "+4.00", "0.700", "0.800", "+0.100"] in lines
    content = json.loads(made.write_json(tmp_path / "scores.json").read_text())
    assert [(level["snr"], level["files"]) for level in content["by_snr"]] == [(0.0, 2), (5.0, 2), (None, 2)]
    assert content["by_snr"][-1]["means"]["si_sdr"]["enhanced"] == 9.0
    rows = list(csv.DictReader(made.write_csv(tmp_path / "scores.csv").open()))
    assert [row["snr"] for row in rows] == ["5", f"{value:g}", "0", "0", "5", f"{value:g}"]


def test_many_nans_are_one_level_and_one_alone_ends_nothing(tmp_path):
    made = report(*((str(index), float("nan"), 1.0, 2.0, 0.5, 0.6) for index in range(4)))
    assert [level["snr"] for level in made.to_json()["by_snr"]] == [None]
    one = report(("a", math.inf, 1.0, 2.0, 0.5, 0.6))
    json.loads(one.write_json(tmp_path / "scores.json").read_text())
    shown(one)


def test_pair_without_a_value_is_excluded_from_the_means_and_counted(four_files):
    assert "STOI: 1 file is not in the mean, because the pair has no value: b" in shown(four_files)
    assert four_files.summary()["stoi_noisy"] == pytest.approx((0.80 + 0.70 + 0.85) / 3)
    assert four_files.summary()["stoi"] == pytest.approx((0.90 + 0.75 + 0.95) / 3)
    assert four_files.summary()["stoi_missing"] == 1
    assert "si_sdr_missing" not in four_files.summary()
    assert "no value" not in shown(report(("a", None, 1, 2, 0.1, 0.2)))


@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_metric_has_no_mean_where_the_network_has_no_value(value):
    """The mean of the other files would hide that the network fails. An SNR without such a file keeps its mean."""
    rows = [("a", 0.0, 1.0, 2.0, 0.5, value), ("b", 0.0, 3.0, 5.0, 0.7, 0.9), ("c", 5.0, 4.0, 6.0, 0.6, 0.8)]
    made = report(*rows, ("d", 5.0, 4.0, 6.0, 0.6, 0.8))
    summary = made.summary()
    assert math.isnan(summary["stoi"])
    assert math.isnan(summary["stoi_gain"])
    assert (summary["stoi_noisy"], summary["stoi_missing"]) == (pytest.approx(0.6), 1)
    assert summary["si_sdr_gain"] == pytest.approx(7 / 4)
    content = made.to_json()
    assert content["all"]["stoi"] == {"noisy": pytest.approx(0.6), "enhanced": None, "gain": None, "missing": 1}
    assert [level["means"]["stoi"]["enhanced"] for level in content["by_snr"]] == [None, pytest.approx(0.8)]
    lines = [line.split() for line in shown(made).splitlines()]
    assert ["all", "4", "3.00", "4.75", "+1.75", "0.600", "–", "–"] in lines
    assert ["5", "2", "4.00", "6.00", "+2.00", "0.600", "0.800", "+0.200"] in lines
    assert "STOI: the mean is left out, because the network's output has no value for 1 of 4 files: a" in shown(made)


def test_two_files_with_one_id_are_an_error():
    with pytest.raises(DataError, match="two samples have the ID `a`"):
        report(("a", None, 1, 2, 0.1, 0.2), ("b", None, 1, 2, 0.1, 0.2), ("a", None, 3, 4, 0.1, 0.2))


def test_the_text_is_plain_and_fits_80_columns(four_files):
    text = shown(four_files)
    assert "\x1b" not in text
    assert max(len(line) for line in text.splitlines() if "not in the mean" not in line) <= 80
    assert "mini" in text.splitlines()[0]


def test_results_are_not_grouped_if_snrs_are_missing_or_all_different():
    for levels in ((None, None, None), (1.3, 2.7, -4.1), (0.0, 0.0, None)):
        made = report(*((str(index), snr, 1.0, 2.0, 0.5, 0.6) for index, snr in enumerate(levels)))
        assert "SNR" not in shown(made)
        assert made.to_json()["by_snr"] == []
        assert made.summary()["si_sdr_gain"] == 1


def test_csv_has_a_row_for_each_file_and_empty_cells_for_missing_values(four_files, tmp_path):
    path = four_files.write_csv(tmp_path / "metrics" / "test.csv")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows[1] == {
        "id": "b", "snr": "0", "note": "", "si_sdr_noisy": "0", "si_sdr_enhanced": "4", "si_sdr_gain": "4",
        "stoi_noisy": "", "stoi_enhanced": "", "stoi_gain": "",
    }  # fmt: skip
    assert [row["id"] for row in rows] == ["a", "b", "c", "d"]


def test_an_id_with_commas_quotes_and_newlines_survives_the_csv(tmp_path):
    name = 'a,"b"\nç'
    with (
        report((name, None, 1, 2, 0.1, 0.2)).write_csv(tmp_path / "test.csv").open(newline="", encoding="utf-8") as file
    ):
        assert next(csv.DictReader(file))["id"] == name


def test_failed_write_does_not_change_the_old_csv(four_files, tmp_path, monkeypatch):
    path = report(("old", None, 1, 2, 0.1, 0.2)).write_csv(tmp_path / "test.csv")
    before = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}

    def fail(descriptor, data):
        raise OSError(28, "no space")

    monkeypatch.setattr(atomic.os, "write", fail)
    with pytest.raises(OSError, match="no space"):
        four_files.write_csv(path)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == before


def test_the_json_has_the_same_numbers(four_files, tmp_path):
    content = json.loads(four_files.write_json(tmp_path / "metrics" / "test.json").read_text())
    assert content["files"] == 4
    assert content["all"]["si_sdr"] == {"noisy": 3.0, "enhanced": 8.5, "gain": 5.5, "missing": 0}
    assert content["all"]["stoi"]["missing"] == 1
    assert [(level["snr"], level["files"], level["means"]["si_sdr"]["gain"]) for level in content["by_snr"]] == [
        (0, 2, 5),
        (5, 2, 6),
    ]
    described = {"label": "SI-SDR", "unit": "dB", "higher_is_better": True}
    assert described.items() <= content["metrics"]["si_sdr"].items()


def test_mean_is_nan_if_every_value_is_missing():
    made = report(("a", None, NAN, 1.0, NAN, NAN))
    assert math.isnan(made.summary()["si_sdr"])
    assert made.to_json()["all"]["si_sdr"] == {"noisy": None, "enhanced": None, "gain": None, "missing": 1}
    assert ["1", *"––––––"] in [line.split() for line in shown(made).splitlines()]


def test_an_empty_report_can_be_shown_and_written(tmp_path):
    made = Report([SiSdr()], [])
    assert "all" not in shown(made)
    assert made.write_csv(tmp_path / "test.csv").read_text() == "id,snr,si_sdr_noisy,si_sdr_enhanced,si_sdr_gain,note\n"


def test_no_number_is_cut_where_the_output_is_a_pipe(monkeypatch, capsys):
    class Wide(SiSdr):
        def __init__(self, index):
            super().__init__()
            self.name, self.label = f"wide_{index}", f"WIDE METRIC {index}"

    monkeypatch.setenv("COLUMNS", "80")
    metrics = [Wide(index) for index in range(8)]
    values = {metric.name: 10 + index for index, metric in enumerate(metrics)}
    states = {"noisy": values, "enhanced": values}
    rows = [RatedFile(f"file {index}", states, group=snr) for index, snr in enumerate((0.0, 5.0, 0.0, 5.0))]
    broken = RatedFile("broken", {**states, "noisy": dict.fromkeys(values, NAN)}, group=5.0)
    made = Report(metrics, [*rows, broken])
    made.show("a title that is longer than many tables are wide: noisy and enhanced", Console())
    shown = capsys.readouterr().out
    assert "…" not in shown
    assert all(f"{10 + index:.2f}" in shown for index in range(8))
    assert "a title that is longer than many tables are wide: noisy and enhanced" in shown.splitlines()
    assert shown.splitlines()[-9].endswith("has no value: broken")
    assert shown.splitlines()[-1].startswith("WIDE METRIC 7: code ")
    assert shown.count("WIDE METRIC 7") == 3


def test_ids_and_titles_with_brackets_are_shown_as_they_are(capsys):
    report(("[red]a[/red]", None, 1.0, NAN, 0.1, 0.2)).show("run [bold]", Console())
    text = capsys.readouterr().out
    assert text.startswith("run [bold]")
    assert "[red]a[/red]" in text


# ------------------------------------------------------------------------------- other states


def states_of(name: str, group: float | None, **values: float) -> RatedFile:
    """Creates a row of SI-SDR with the states that are given."""
    return RatedFile(name, {state: {"si_sdr": value} for state, value in values.items()}, group=group)


def test_report_has_the_states_of_another_task(tmp_path):
    rows = [states_of("a", None, mixture=-1.0, separated=9.0), states_of("b", None, mixture=1.0, separated=13.0)]
    made = Report([SiSdr()], rows, states={"mixture": "mix", "separated": "separated"}, group="")
    assert made.summary() == {"si_sdr": 11.0, "si_sdr_mixture": 0.0, "si_sdr_gain": 11.0}
    assert made.to_json()["all"] == {"si_sdr": {"mixture": 0.0, "separated": 11.0, "gain": 11.0, "missing": 0}}
    assert "by_" not in str(made.to_json().keys())
    lines = made.write_csv(tmp_path / "scores.csv").read_text().splitlines()
    assert lines[:2] == ["id,si_sdr_mixture,si_sdr_separated,si_sdr_gain,note", "a,-1,9,10,"]
    headings = shown(made).splitlines()
    assert any(line.split() == ["files", "mix", "separated", "gain"] for line in headings)
    assert "noisy" not in shown(made)


def test_report_of_a_single_state_has_no_gain_and_groups_by_any_number(tmp_path):
    values = ((6.0, 3.0), (12.0, 8.0), (6.0, 5.0), (12.0, 10.0))
    rows = [states_of(str(index), rate, decoded=value) for index, (rate, value) in enumerate(values)]
    broken = RatedFile("broken", {"decoded": {"si_sdr": NAN}}, {"original": "original is silent"}, group=6.0)
    made = Report(
        [SiSdr()], [*rows, broken], states={"decoded": "decoded"}, group="kbps", group_heading="rate\nin kbit/s"
    )
    assert made.summary() == {"si_sdr": 6.5, "si_sdr_missing": 1}
    assert [(level["kbps"], level["means"]["si_sdr"]["decoded"]) for level in made.to_json()["by_kbps"]] == [
        (6, 4),
        (12, 9),
    ]
    lines = [line.split() for line in shown(made).splitlines()]
    assert ["in", "kbit/s", "files", "decoded"] in lines
    assert ["rate", "SI-SDR", "in", "dB"] in lines
    assert ["12", "2", "9.00"] in lines
    assert made.write_csv(tmp_path / "scores.csv").read_text().splitlines()[-1] == "broken,6,,original is silent"
    # Negative control: without a reason, it is the network that has no value.
    assert math.isnan(
        Report([SiSdr()], [*rows, states_of("x", 6.0, decoded=NAN)], states={"decoded": ""}).summary()["si_sdr"]
    )


def test_gain_of_a_metric_that_is_better_when_lower_is_positive_if_it_has_fallen():
    class Distance(SiSdr):
        higher_is_better = False

    made = Report([Distance()], [RatedFile("a", {"noisy": {"si_sdr": 5.0}, "enhanced": {"si_sdr": 1.5}})])
    assert made.summary() == {"si_sdr": 1.5, "si_sdr_noisy": 5.0, "si_sdr_gain": 3.5}
    assert "+3.50" in shown(made)


def test_gain_of_three_states_is_that_from_the_first_to_the_last():
    rows = [states_of("a", None, mixture=1.0, baseline=4.0, separated=9.0)]
    made = Report([SiSdr()], rows, states={"mixture": "mix", "baseline": "base", "separated": "sep."})
    assert made.summary() == {"si_sdr": 9.0, "si_sdr_mixture": 1.0, "si_sdr_baseline": 4.0, "si_sdr_gain": 8.0}
    assert ["1", "1.00", "4.00", "9.00", "+8.00"] in [line.split()[-5:] for line in shown(made).splitlines()]


def test_row_that_lacks_a_state_is_named():
    with pytest.raises(DataError, match="row `a` has no values for the state `noisy`; it has mixture, separated"):
        Report([SiSdr()], [states_of("a", None, mixture=1.0, separated=2.0)])


@pytest.mark.parametrize("name", ["gain", "missing"])
def test_state_with_the_name_of_another_value_is_refused(name):
    """Its mean would replace the gain or the number of files without a value, or be replaced by it."""
    for states in ((name,), (name, "output"), ("input", name)):
        with pytest.raises(RunError, match=f"a state can't be called `{name}`"):
            Report([SiSdr()], [], states=dict.fromkeys(states, ""))
    Report([SiSdr()], [], states={f"{name}s": "", "output": ""})


@pytest.mark.parametrize("name", ["files", "means", "id", "note", "si_sdr_noisy"])
def test_group_with_the_name_of_another_entry_is_refused(name):
    with pytest.raises(RunError, match=f"the group can't be called `{name}`"):
        Report([SiSdr()], [], group=name)
    Report([SiSdr()], [], group=f"{name}_")


@pytest.mark.parametrize("name", ["snr", "files", "means", "all"])
def test_metric_with_the_name_of_another_entry_replaces_nothing(name, tmp_path):
    metric = SiSdr()
    metric.name = name
    rows = [
        RatedFile(str(index), {"noisy": {name: 1.0}, "enhanced": {name: 2.0 + index}}, group=5.0 * (index % 2))
        for index in range(4)
    ]
    made = Report([metric], rows)
    content = json.loads(made.write_json(tmp_path / "scores.json").read_text())
    assert content["files"] == 4
    assert content["all"][name]["enhanced"] == 3.5
    assert [(level["snr"], level["files"]) for level in content["by_snr"]] == [(0.0, 2), (5.0, 2)]
    assert [level["means"][name]["enhanced"] for level in content["by_snr"]] == [3.0, 4.0]
    header = made.write_csv(tmp_path / "scores.csv").read_text().splitlines()[0].split(",")
    assert header == ["id", "snr", f"{name}_noisy", f"{name}_enhanced", f"{name}_gain", "note"]


def test_report_without_a_state_is_refused():
    with pytest.raises(RunError, match="at least one state"):
        Report([SiSdr()], [], states={})


def test_groups_are_shown_only_if_the_group_has_a_name():
    rows = [states_of(str(index), float(index % 2), noisy=1.0, enhanced=2.0) for index in range(4)]
    without = Report([SiSdr()], rows, group="")
    assert "SNR" not in shown(without)
    assert not any(name.startswith("by_") for name in without.to_json())
    with_name = Report([SiSdr()], rows)
    assert "SNR" in shown(with_name)
    assert [level["files"] for level in with_name.to_json()["by_snr"]] == [2, 2]
