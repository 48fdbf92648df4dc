"""Systems are compared over the files that they share, and what is left out or remarkable is told."""

import csv
import json
import math

import numpy as np
import pytest

from audiozen_core.errors import DataError, RunError
from audiozen_core.results.compare_systems import compare_systems
from audiozen_core.results.permutation import holm
from audiozen_core.results.records import FileScores, MetricInfo
from audiozen_core.results.scores import Scores
from audiozen_core.results.systems import ScoredSystem

NAN = math.nan
IDENTITY = {"path": "x.SiSdr", "packages": {"x": "1.0"}, "settings": {"zero_mean": True}, "rate": 16000, "weights": {}}


def info(name, higher=True, unit="", **changes):
    return MetricInfo(name, name.upper(), unit, higher, "", {**IDENTITY, **changes})


def scores(values, metrics=None, **reasons):
    """Returns scores: `values` is a dict from the metric to a dict from the ID to the value."""
    ids = list(dict.fromkeys(name for of in values.values() for name in of))
    chosen = metrics or tuple(info(name) for name in values)
    files = tuple(
        FileScores(key, {name: of.get(key, NAN) for name, of in values.items()}, {}, reasons.get(key, {}))
        for key in ids
    )
    return Scores(tuple(chosen), files)


def system(name, *runs):
    return ScoredSystem(name, tuple(run if isinstance(run, Scores) else scores(run) for run in runs))


def numbered(values, start=0):
    return {f"f{number}": float(value) for number, value in enumerate(values, start)}


def noted(comparison, *words):
    found = [note for note in comparison.notes if all(word in note for word in words)]
    assert len(found) == 1, comparison.notes
    return found[0]


def test_files_are_matched_by_id_and_not_by_their_order():
    a = system("a", {"m": {"x": 1.0, "y": 2.0, "z": 9.0}})
    b = system("b", {"m": {"z": 9.5, "y": 2.5, "x": 1.5}})
    assert compare_systems([a, b]).difference("m", "b").mean == 0.5
    assert [row.difference for row in compare_systems([a, b]).files("m", "b")] == [0.5] * 3


def test_files_of_one_system_only_are_reported_and_left_out():
    a = system("a", {"m": {**numbered([1, 2, 3]), "only": 100.0}})
    b = system("b", {"m": {**numbered([2, 3, 4]), "own": -100.0, "mine": -100.0}})
    found = compare_systems([a, b])
    assert found.ids == ("f0", "f1", "f2")
    assert (found.mean("m", "a").mean, found.difference("m", "b").mean) == (2.0, 1.0)
    assert noted(found, "only a has") == "1 file is left out, because only a has it: only"
    assert noted(found, "only b has").endswith("own, mine")


def test_file_without_value_in_one_system_is_in_the_mean_of_none_and_is_listed():
    a = system("a", {"m": numbered([1, 2, 300]), "n": numbered([1, 2, 3])})
    b = system("b", scores({"m": {"f0": 2.0, "f1": 4.0, "f2": NAN}, "n": numbered([1, 2, 4])}, f2={"m": "silent"}))
    found = compare_systems([a, b])
    one = found.difference("m", "b")
    assert (one.files, one.mean, found.mean("m", "a").mean) == (2, 1.5, 1.5)
    assert found.difference("n", "b").files == 3, "the other metric keeps the file"
    assert "M: 1 of 3 files have no value in b" in noted(found, "f2 (silent)")


def test_every_mean_is_over_the_same_files_so_that_their_difference_is_the_mean_difference():
    generator = np.random.default_rng(0)
    systems = []
    for name in "abc":
        values = generator.normal(0, 1, 20)
        values[generator.integers(0, 20, 3)] = NAN
        systems.append(system(name, {"m": numbered(values)}))
    found = compare_systems(systems)
    for name in "bc":
        one = found.difference("m", name)
        assert one.mean == pytest.approx(found.mean("m", name).mean - found.mean("m", "a").mean)


def test_systems_without_a_common_file_are_an_error_that_shows_the_ids():
    with pytest.raises(DataError, match="no file in common") as caught:
        compare_systems([system("a", {"m": numbered([1])}), system("b", {"m": numbered([1], start=5)})])
    assert caught.value.notes == ("IDs of a: f0", "IDs of b: f5")


def test_metric_that_one_system_lacks_is_a_dash_and_one_that_the_baseline_lacks_is_left_out():
    a = system("a", {"m": numbered([1, 2]), "n": numbered([1, 2])})
    b = system("b", {"m": numbered([2, 3]), "o": numbered([2, 3])})
    c = system("c", {"m": numbered([3, 4]), "n": numbered([3, 4]), "o": {"f0": NAN, "f1": NAN}})
    found = compare_systems([a, b, c])
    assert [metric.name for metric in found.metrics] == ["m", "n"]
    assert found.mean("n", "b") is None
    assert [(one.metric, one.system) for one in found.differences] == [("m", "b"), ("m", "c"), ("n", "c")]
    assert noted(found, "n: no values") == "n: no values in b"
    assert noted(found, "o is not compared").endswith("in a, c")
    row = next(line for line in found.table("markdown").splitlines() if line.startswith("| b "))
    assert row.split("|")[3].strip() == "–"


def test_systems_without_a_common_metric_are_an_error():
    with pytest.raises(DataError, match="no metric in common") as caught:
        compare_systems([system("a", {"m": numbered([1])}), system("b", {"n": numbered([1])})])
    assert caught.value.notes == ("metrics of a: m", "metrics of b: n")


def test_holm_counts_all_metrics_and_systems():
    generator = np.random.default_rng(1)
    systems = [
        system(name, {metric: numbered(generator.normal(shift, 1, 12)) for metric in "mn"})
        for shift, name in enumerate("abc")
    ]
    found = compare_systems(systems)
    assert len(found.differences) == 4
    assert [one.p_holm for one in found.differences] == holm([one.p for one in found.differences])
    alone = compare_systems(systems, metrics=["m"])
    assert alone.difference("m", "c").p == found.difference("m", "c").p
    assert alone.difference("m", "c").p_holm < found.difference("m", "c").p_holm
    assert "corrected by Holm's method for 4 tests" in found.table()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"packages": {"x": "2.0"}}, "m: different packages: x 1.0 in a, x 2.0 in b"),
        ({"rate": 48000}, "m: different rate: 16000 Hz in a, 48000 Hz in b"),
        ({"settings": {"zero_mean": False}}, "m: different settings: zero_mean true in a, zero_mean false in b"),
        (
            {"weights": {"net.onnx": "0123456789abcdef" * 4}},
            "m: different weights: no net.onnx in a, net.onnx 01234567 in b",
        ),
        ({"path": "y.SiSdr"}, "m: different path: x.SiSdr in a, y.SiSdr in b"),
    ],
)
def test_other_definition_of_a_metric_is_a_warning_that_names_it(changes, told):
    values = {"m": numbered([1, 2])}
    a, b = system("a", scores(values, [info("m")])), system("b", scores(values, [info("m", **changes)]))
    assert noted(compare_systems([a, b]), "warning: m") == f"warning: {told}"
    assert not [note for note in compare_systems([a, system("c", {"m": numbered([2, 2])})]).notes if "warning" in note]


@pytest.mark.parametrize(("other", "what"), [({"unit": "dB"}, "unit"), ({"higher": False}, "better direction")])
def test_values_of_another_unit_or_direction_are_an_error(other, what):
    values = {"m": numbered([1, 2])}
    systems = [system("a", scores(values, [info("m")])), system("b", scores(values, [info("m", **other)]))]
    with pytest.raises(DataError, match=f"can't be compared: the {what} is"):
        compare_systems(systems)


def plain(values):
    """Returns scores as of a CSV of another program, which does not say what its metrics are."""
    return scores(values, [MetricInfo(name, name) for name in values])


def test_direction_of_a_plain_csv_is_set_required_or_taken_from_the_other_system():
    a, b = system("a", plain({"wer": numbered([4, 5])})), system("b", plain({"wer": numbered([3, 4])}))
    found = compare_systems([a, b])
    assert "--lower-is-better" in noted(found, "higher or lower is better")
    assert found.difference("wer", "b").worse == 2
    lower = compare_systems([a, b], lower_is_better=["wer"])
    assert lower.difference("wer", "b").better == 2
    assert not [note for note in lower.notes if "direction" in note]
    known = system("k", scores({"wer": numbered([4, 5])}, [info("wer", higher=False)]))
    found = compare_systems([a, known, b])
    assert found.difference("wer", "b").better == 2
    assert "the scores of a do not say how this metric was computed" in noted(found, "warning: wer")


def test_direction_that_the_scores_contradict_is_an_error():
    systems = [system(name, {"m": numbered([1, 2])}) for name in "ab"]
    with pytest.raises(DataError, match="higher values of `m` are better"):
        compare_systems(systems, lower_is_better=["m"])


def test_unknown_metric_has_a_suggestion():
    with pytest.raises(RunError, match=r"no system has the metric `peqs`: .*`pesq`"):
        compare_systems([system(name, {"pesq": numbered([1, 2])}) for name in "ab"], metrics=["peqs"])


def test_identical_scores_are_reported_and_not_significant():
    values = {"m": numbered([1, 2, 3])}
    found = compare_systems([system("a", values), system("b", values), system("c", {"m": numbered([1, 2, 4])})])
    assert noted(found, "identical") == "warning: the scores of a and b are identical, file by file"
    one = found.difference("m", "b")
    assert (one.p, one.equal, one.verdict) == (1.0, 3, "")
    seeds = compare_systems([system("a", values, values), system("c", {"m": numbered([1, 2, 4])})])
    assert "a, run 1 and a, run 2" in noted(seeds, "identical")


def test_column_of_a_csv_that_is_the_same_everywhere_is_no_metric():
    a, b = (
        system(name, plain({"snr": numbered([0, 5]), "m": numbered(m)})) for name, m in (("a", [1, 2]), ("b", [2, 2]))
    )
    found = compare_systems([a, b])
    assert [metric.name for metric in found.metrics] == ["m"]
    assert "snr: the values are the same in all systems" in noted(found, "--by NAME")
    assert [metric.name for metric in compare_systems([a, b], metrics=["snr"]).metrics] == ["snr"]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_files_give_a_table_and_a_note_that_nothing_can_be_significant(count):
    a, b = system("a", {"m": numbered([1.0, 2.5, 3.0][:count])}), system("b", {"m": numbered([2.0, 2.0, 5.0][:count])})
    found = compare_systems([a, b])
    assert f"smallest possible p is {2 / 2**count:.2g}" in noted(found, "no difference can be significant")
    for form in ("text", "latex", "markdown"):
        assert "nan" not in found.table(form, intervals=True).lower()


def test_seeds_have_mean_and_deviation_and_files_that_a_seed_lacks_are_reported():
    a = system("a", {"m": numbered([1, 2, 3])}, {"m": {**numbered([3, 4, 5]), "more": 100.0}})
    b = system("b", {"m": numbered([2, 3, 5])})
    found = compare_systems([a, b])
    mean = found.mean("m", "a")
    assert (mean.mean, mean.seeds, mean.deviation) == (3.0, 2, pytest.approx(math.sqrt(2)))
    assert found.difference("m", "b").mean == pytest.approx(10 / 3 - 3)
    assert noted(found, "not all runs") == "1 file is left out, because not all runs of a have it: more"
    assert "3.00 ± 1.41" in found.table()
    assert "the intervals only cover the seeds of a," in noted(found, "intervals only cover")


def test_file_without_value_in_one_seed_has_none():
    a = system("a", {"m": numbered([1, 2, 3])}, {"m": {**numbered([3, 4]), "f2": NAN}})
    found = compare_systems([a, system("b", {"m": numbered([2, 3, 50])})])
    assert found.difference("m", "b").files == 2
    assert noted(found, "no value in a")


def test_significant_files_with_uncertain_seeds_are_reported():
    generator = np.random.default_rng(2)
    base = generator.normal(0, 1, 30)
    b = system("b", {"m": numbered(base + 0.1)}, {"m": numbered(base + 0.9 + generator.normal(0, 0.01, 30))})
    found = compare_systems([system("a", {"m": numbered(base)}), b])
    assert found.difference("m", "b").p_holm < 0.001
    assert "other seeds may show no difference" in noted(found, "contains zero")


def test_conditions_have_differences_of_their_own_files_and_one_correction():
    a = system("a", {"m": numbered([1, 1, 1, 1])})
    b = system("b", {"m": numbered([2, 2, 1, 0.5])})
    conditions = {"snr": {"f0": "10", "f1": "10", "f2": "5", "f3": ""}}
    found = compare_systems([a, b], conditions=conditions)
    assert list(found.by["snr"]) == ["5", "10", ""]
    assert [of[0].mean for of in found.by["snr"].values()] == [0.0, 1.0, -0.5]
    assert found.mean("m", "b", "snr", "10").mean == 2.0
    assert [of[0].p_holm for of in found.by["snr"].values()] == [1.0, 1.0, 1.0]
    assert found.difference("m", "b").mean == pytest.approx(1.5 / 4)


def test_best_and_worst_files_follow_the_direction_of_the_metric():
    values = numbered([1, 2, 3, 4])
    a = system("a", scores({"m": values, "l": values}, [info("m"), info("l", higher=False)]))
    after = numbered([1.1, 1.0, 5.0, 4.0])
    b = system("b", scores({"m": after, "l": after}, [info("m"), info("l", higher=False)]))
    found = compare_systems([a, b])
    assert [row.id for row in found.files("m", "b")] == ["f1", "f3", "f0", "f2"]
    assert [row.id for row in found.files("l", "b")] == ["f2", "f0", "f3", "f1"]
    row = found.files("m", "b")[0]
    assert (row.baseline, row.value, row.difference) == (2.0, 1.0, -1.0)
    lines = [line.split() for line in found.table(files=1).splitlines() if "worst" in line or "best" in line]
    assert [(line[-5], line[-4]) for line in lines] == [
        ("worst", "f1"),
        ("best", "f2"),
        ("worst", "f2"),
        ("best", "f1"),
    ]
    assert "worst" not in found.table(files=0)


def test_files_that_are_written_have_every_number_and_no_nan(tmp_path):
    a = system("a", {"m": {**numbered([1 / 3, 2]), "f2": NAN}})
    b = system("b", {"m": numbered([2, 3, 4])}, {"m": numbered([3, 4, 5])})
    found = compare_systems([a, b], conditions={"snr": {"f0": "5", "f1": "5", "f2": "0"}})
    paths = found.write(tmp_path / "new", "latex")
    assert [path.name for path in paths] == ["comparison.json", "differences.csv", "files.csv", "comparison.tex"]

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    content = json.loads(paths[0].read_text(), parse_constant=refuse)
    assert (content["kind"], content["baseline"], content["systems"]["b"]["runs"]) == ("comparison", "a", 2)
    one = found.difference("m", "b")
    assert content["differences"][0]["p_holm"] == one.p_holm
    assert content["differences"][0]["difference"] == one.mean
    assert [level["snr"] for level in content["by_snr"]] == ["0", "5"]
    assert content["by_snr"][0]["differences"][0]["p"] is None
    assert content["means"]["b"]["m"]["deviation"] == found.mean("m", "b").deviation
    with paths[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["condition"], row["value"]) for row in rows] == [("", ""), ("snr", "0"), ("snr", "5")]
    assert (float(rows[0]["difference"]), rows[1]["p"]) == (one.mean, "")
    with paths[2].open(newline="") as file:
        files = list(csv.DictReader(file))
    assert files[0] == {"id": "f0", "snr": "5", "m:a": repr(1 / 3), "m:b": "2.5"}
    assert files[2]["m:a"] == ""
    assert paths[3].read_text().startswith(r"\begin{table}")
