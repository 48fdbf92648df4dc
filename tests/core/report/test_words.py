"""Differences are said in the right direction, with enough digits, and as certain only if they are."""

import numpy as np
import pytest

from audiozen_core.report.words import difference_words, headline, join_words
from audiozen_core.results.paired import corrected, paired_difference
from audiozen_core.results.records import MetricInfo

SI_SDR = MetricInfo("si_sdr", "SI-SDR", "dB")
WER = MetricInfo("wer", "WER", "", higher_is_better=False)


def difference(metric, before, after):
    (one,) = corrected(
        [
            paired_difference(
                metric.name,
                "new",
                np.array([before], float),
                np.array([after], float),
                higher_is_better=metric.higher_is_better,
            )
        ]
    )
    return one


BEFORE = np.arange(20.0)
RAMP = np.linspace(0.4, 0.6, 20)


@pytest.mark.parametrize(
    ("metric", "change", "words"),
    [
        (SI_SDR, RAMP, "better by 0.50 dB (0.47 to 0.53), certain"),
        (SI_SDR, -RAMP, "worse by 0.50 dB (0.47 to 0.53), certain"),
        (WER, RAMP, "worse by 0.50 (0.47 to 0.53), certain"),
        (WER, -RAMP, "better by 0.50 (0.47 to 0.53), certain"),
        (SI_SDR, RAMP / 100, "better by 0.0050 dB (0.0047 to 0.0053), certain"),
        (SI_SDR, np.tile([1.0, -0.9], 10), "not certain: +0.050 dB (\u22120.375 to 0.430)"),
        (SI_SDR, np.zeros(20), "the same for every file"),
    ],
)
def test_difference_in_words(metric, change, words):
    found = difference_words(difference(metric, BEFORE, BEFORE + change), metric, 2)
    start, _, _ = words.partition("(")
    assert found.startswith(start)
    assert ("certain" in found and "not certain" not in found) == words.endswith(", certain")


def test_interval_is_in_the_direction_of_the_word():
    found = difference_words(difference(WER, BEFORE, BEFORE - RAMP), WER, 2)
    low, high = (float(end) for end in found.split("(")[1].split(")")[0].split(" to "))
    assert 0 < low < 0.5 < high


def test_no_file():
    assert difference_words(difference(SI_SDR, [], []), SI_SDR, 2) == "no file has a value in both systems"


def test_headline_separates_what_is_certain():
    better = difference(SI_SDR, BEFORE, BEFORE + RAMP)
    worse = difference(WER, BEFORE, BEFORE + RAMP)
    unsure = difference(SI_SDR, BEFORE, BEFORE + np.tile([1.0, -1.0], 10))
    stoi = MetricInfo("stoi", "STOI")
    assert headline("new", "old", [(better, SI_SDR, 2), (worse, WER, 2), (unsure, stoi, 3)]) == (
        "new is certainly better than old in SI-SDR (by 0.50 dB) and worse than old in WER (by 0.50). "
        "No certain difference in STOI."
    )
    assert headline("new", "old", [(unsure, stoi, 3)]) == "No certain difference between new and old in STOI."


def test_headline_says_what_is_the_same():
    same, better = difference(SI_SDR, BEFORE, BEFORE), difference(SI_SDR, BEFORE, BEFORE + RAMP)
    stoi = MetricInfo("stoi", "STOI")
    assert headline("new", "old", [(same, SI_SDR, 2)]) == "new and old are the same in SI-SDR for every file."
    assert headline("new", "old", [(better, SI_SDR, 2), (same, stoi, 2)]) == (
        "new is certainly better than old in SI-SDR (by 0.50 dB). new and old are the same in STOI for every file."
    )


def test_joined():
    assert [join_words([]), join_words(["a", "b"])] == ["", "a and b"]
