"""Conditions come from a table, from folders, or from the names of files."""

import pytest

from audiozen_core.errors import RunError
from audiozen_core.results.id_table import IdTable, read_id_table
from audiozen_core.scoring.conditions import conditions_of

IDS = ["babble/p1_snr_5/a", "car/p2_snr_-2.5/b"]


def values(name, ids=IDS, table=None):
    found, _ = conditions_of([name], ids, table)
    return [found[key][name] for key in ids]


def test_names_of_folders_and_parts_of_names():
    assert values("folder1") == ["babble", "car"]
    assert values("folder2") == ["p1_snr_5", "p2_snr_-2.5"]
    assert values("snr") == ["5", "-2.5"]
    assert values("noise", ["a_noise_car_snr_5", "b_noise=bus"]) == ["car", "bus"]
    assert values("snr", ["mix_snr0_tl-25", "mix_SNR-15_tl-2"]) == ["0", "-15"]


def test_name_within_a_longer_word_is_not_taken():
    with pytest.raises(RunError):
        values("snr", ["xsnr_5"])


def test_column_of_the_table_comes_first(tmp_path):
    table = IdTable(tmp_path, [("a", {"snr": "7"}), ("b", {"snr": "9"})], ["snr"])
    assert values("snr", table=table) == ["7", "9"]


def test_files_without_a_value_are_reported(tmp_path):
    found, findings = conditions_of(["snr"], ["a_snr_5", "b"], None)
    assert found["b"] == {"snr": ""}
    assert findings == ["1 of 2 files have no value for the condition `snr`: b"]


def test_condition_that_no_file_has_names_the_known_ones(tmp_path):
    table = IdTable(tmp_path, [("a", {"noise_type": "car"})], ["noise_type"])
    with pytest.raises(RunError, match="did you mean `noise_type`") as caught:
        conditions_of(["noise_typ"], IDS, table)
    assert "`folder1`, `folder2`, `snr`" in caught.value.notes[0]


def test_column_that_can_not_be_a_condition_is_not_proposed(tmp_path):
    table = IdTable(tmp_path, [("a", {"note": "silent"})], ["note"])
    with pytest.raises(RunError) as caught:
        conditions_of(["noise"], ["a"], table)
    assert (list(caught.value.notes), "did you mean" in caught.value.message) == (["known: none"], False)


def test_number_has_one_form_and_a_label_stays_as_it_is(tmp_path):
    (tmp_path / "a.csv").write_text("id,snr,take\na,5,007\nb,5.0,7\nc,+5,1e1\nd,-2.50,10\n")
    found, _ = conditions_of(["snr", "take"], list("abcd"), read_id_table(tmp_path / "a.csv"))
    assert [of["snr"] for of in found.values()] == ["5", "5", "5", "-2.5"]
    assert [of["take"] for of in found.values()] == ["007", "7", "1e1", "10"]
