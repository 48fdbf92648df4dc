"""No metric has a value for a degenerate pair. Metrics can't change what is measured or written later."""

import importlib.util
import math

import pytest
import torch

from audiozen.metric import Pesq, SiSdr, SiSdrImprovement, Stoi
from audiozen_core.errors import DataError, RunError
from audiozen_core.scoring import rating
from audiozen_core.scoring.metric import needs_of
from audiozen_core.scoring.over_speakers import MeanOverSpeakers
from audiozen_core.scoring.rating import Rater, faults_of
from audiozen_core.scoring.report import Report
from tests.core.scoring.shown import shown

SR = 16000


def tone(seed=0):
    """Returns 2 s of a tone that goes on and off, with a little noise of its own."""
    time = torch.arange(2 * SR) / SR
    noise = torch.randn(2 * SR, generator=torch.Generator().manual_seed(seed))
    return 0.2 * torch.sin(2000 * time) * (torch.sin(9 * time) > 0) + 0.001 * noise


def noise(seed, level=0.05):
    return level * torch.randn(2 * SR, generator=torch.Generator().manual_seed(seed))


def spoiled(signal, value):
    signal = signal.clone()
    signal[77] = value
    return signal


CLEAN = tone()
NOISY = CLEAN + noise(1)
BETTER = CLEAN + noise(2, 0.01)
SILENT = torch.zeros(2 * SR)
GOOD = {"noisy": NOISY, "enhanced": BETTER, "clean": CLEAN}
PAIRS = {
    "good": (NOISY, BETTER, CLEAN, ""),
    "equal": (CLEAN, BETTER, CLEAN, "noisy equals clean"),
    "equal with another gain": (0.3 * CLEAN, BETTER, CLEAN, "noisy equals clean"),
    "silent clean": (NOISY, BETTER, SILENT, "clean is silent"),
    "constant clean": (NOISY, BETTER, SILENT + 0.1, "clean is silent"),
    "silent noisy": (SILENT, BETTER, CLEAN, "noisy is silent"),
    "noisy with NaN": (spoiled(NOISY, math.nan), BETTER, CLEAN, "noisy is not finite"),
    "clean with infinity": (NOISY, BETTER, spoiled(CLEAN, math.inf), "clean is not finite"),
    "silent output": (NOISY, SILENT, CLEAN, "enhanced is silent"),
    "output with NaN": (NOISY, spoiled(BETTER, math.nan), CLEAN, "enhanced is not finite"),
    "output with infinity": (NOISY, spoiled(BETTER, -math.inf), CLEAN, "enhanced is not finite"),
    "output equals clean": (NOISY, CLEAN, CLEAN, "enhanced equals clean"),
}


def all_metrics():
    """Returns all metrics but DNSMOS, whose network takes two seconds for each signal."""
    kinds = [SiSdr, Stoi, *[Pesq] * bool(importlib.util.find_spec("pesq"))]
    return [kind() for kind in kinds]


@pytest.fixture(scope="module")
def rows():
    rater = Rater(all_metrics(), SR)
    return {
        name: rater.rate(name, {"noisy": noisy, "enhanced": enhanced, "clean": clean})
        for name, (noisy, enhanced, clean, _) in PAIRS.items()
    }


@pytest.mark.parametrize("name", PAIRS)
def test_degenerate_pair_is_recognised(rows, name):
    reason = PAIRS[name][3]
    assert rows[name].faults == ({reason.split(" ")[0]: reason} if reason else {})


def test_every_metric_leaves_out_the_same_files(rows):
    at_fault = {name: reason.split(" ")[0] for name, (*_, reason) in PAIRS.items() if reason}
    pairs = {name for name, whose in at_fault.items() if whose != "enhanced"}
    metrics = all_metrics()
    report = Report(metrics, rows.values())
    assert len(metrics) >= 2
    for metric in metrics:
        for found, wanted in zip(report.without_value(metric), (pairs, at_fault.keys() - pairs), strict=True):
            assert {row.id for row in found} == wanted


def test_mean_is_over_the_good_pairs_alone(rows):
    by_network = {name: reason for name, (*_, reason) in PAIRS.items() if reason.startswith("enhanced")}
    report = Report([SiSdr()], [row for row in rows.values() if row.id not in by_network])
    alone = Report([SiSdr()], [rows["good"]])
    count = len(report.rows) - 1
    assert report.summary() == {**alone.summary(), "si_sdr_missing": count}
    assert report.summary()["si_sdr_gain"] > 5
    assert report.to_json()["all"]["si_sdr"]["missing"] == count
    left_out = Report([SiSdr()], rows.values()).to_json()["left_out"]["si_sdr"]
    assert left_out["pair"]["equal"] == "noisy equals clean"
    assert left_out["network"] == by_network


def test_table_and_csv_say_which_files_are_left_out_and_why(rows, tmp_path):
    report = Report([SiSdr(), Stoi()], rows.values())
    text = shown(report)
    line = (
        "SI-SDR, STOI: the mean is left out, because the network's output has no value for 4 of "
        f"{len(PAIRS)} files: silent output (enhanced"
    )
    assert line in text
    assert "because the pair has no value: equal (noisy equals clean)" in text
    assert "inf" not in text.partition("SI-SDR, STOI:")[0]
    content = report.write_csv(tmp_path / "scores.csv").read_text()
    assert "equal,,,40" not in content
    assert next(line for line in content.splitlines() if line.startswith("silent noisy,")).endswith(",noisy is silent")
    cells = [cell for line in content.splitlines()[1:] for cell in line.split(",")[1:-1]]
    assert not {"inf", "nan", "-inf"} & set(cells)


def test_means_without_degenerate_pairs_say_nothing(rows):
    report = Report([SiSdr()], [rows["good"]])
    assert "no value" not in shown(report)
    assert report.to_json()["left_out"] == {}


class Greedy:
    """A metric that works in place, as a careless implementation does."""

    name = label = "greedy"
    unit = ""
    higher_is_better = True

    def __call__(self, estimate, reference, *, sr):
        estimate /= estimate.abs().max()
        reference.zero_()
        return 1.0


def test_metric_that_works_in_place_changes_neither_the_others_nor_the_signals():
    noisy, enhanced, clean = NOISY.clone(), BETTER.clone(), CLEAN.clone()
    row = Rater([Greedy(), SiSdr()], SR).rate("a", {"noisy": noisy, "enhanced": enhanced, "clean": clean})
    assert row.values["enhanced"]["si_sdr"] == SiSdr()(BETTER, CLEAN, sr=SR)
    assert row.values["noisy"]["si_sdr"] == SiSdr()(NOISY, CLEAN, sr=SR)
    assert all(torch.equal(*pair) for pair in ((noisy, NOISY), (enhanced, BETTER), (clean, CLEAN)))


class Keeps(Greedy):
    """Says that it keeps the signals, and does not."""

    keeps_signals = True


def test_metric_that_says_that_it_keeps_the_signals_gets_them_without_copies():
    signals = {"noisy": NOISY.clone(), "enhanced": BETTER.clone(), "clean": CLEAN.clone()}
    Rater([Keeps()], SR).rate("a", signals)
    assert not torch.equal(signals["noisy"], NOISY)
    speakers = {name: wave.repeat(2, 1) for name, wave in (("noisy", NOISY), ("enhanced", BETTER), ("clean", CLEAN))}
    Rater([MeanOverSpeakers(Keeps())], SR).rate("a", speakers)
    assert not torch.equal(speakers["noisy"][0], NOISY)


@pytest.mark.parametrize("metric", [SiSdr(), SiSdr(zero_mean=False), SiSdrImprovement()])
def test_our_metrics_that_say_so_keep_the_signals(metric):
    assert metric.keeps_signals
    given = {"estimate": BETTER + 0.5, "reference": CLEAN + 0.5, "noisy": NOISY + 0.5}
    before = {name: wave.clone() for name, wave in given.items()}
    noisy = {"noisy": given["noisy"]} if "noisy" in needs_of(metric) else {}
    assert math.isfinite(metric(given["estimate"], given["reference"], sr=SR, **noisy))
    assert all(torch.equal(given[name], before[name]) for name in given)


class Counts(SiSdr):
    """Counts its calls."""

    calls = 0

    def __call__(self, estimate, reference, *, sr):
        self.calls += 1
        return super().__call__(estimate, reference, sr=sr)


def test_noisy_file_is_rated_once_and_another_file_of_that_name_is_not_mistaken_for_it():
    metric = Counts()
    rater = Rater([metric], SR)
    first = rater.rate("a", GOOD)
    again = rater.rate("a", GOOD)
    assert (metric.calls, again) == (3, first)
    other = rater.rate("a", {**GOOD, "noisy": CLEAN + noise(3, 0.5)})
    assert metric.calls == 5
    assert other.values["noisy"]["si_sdr"] < first.values["noisy"]["si_sdr"] - 10


class Filters:
    """A metric that uses a convolution, which mixed precision would round."""

    name = label = "filters"
    unit = ""
    higher_is_better = True

    def __call__(self, estimate, reference, *, sr):
        kernel = torch.full((1, 1, 5), 1 / 3)
        return torch.nn.functional.conv1d(estimate[None, None], kernel).double().sum().item()


def test_mixed_precision_of_the_trainer_does_not_round_a_metric():
    def value():
        row = Rater([Filters()], SR).rate("a", GOOD)
        return row.values["enhanced"]["filters"]

    exact = value()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert Filters()(BETTER, CLEAN, sr=SR) != exact  # negative control
        assert value() == exact


def test_metric_that_fails_is_named_with_the_file():
    class Fails(SiSdr):
        def __call__(self, estimate, reference, *, sr):
            raise IndexError("no frames")

    with pytest.raises(RunError, match="the metric `si_sdr` fails for `a`: IndexError: no frames"):
        Rater([Fails()], SR).rate("a", GOOD)


def test_signals_of_other_kinds_are_not_degenerate():
    for noisy in (NOISY, 1e-8 * NOISY, CLEAN + 1e-5 * noise(1)):
        assert faults_of({"clean": CLEAN, "noisy": noisy}) == {}


class Level:
    """A metric of several signals [sources, time]."""

    name = label = "level"
    unit = ""
    higher_is_better = True

    def __call__(self, estimate, reference, *, sr):
        assert estimate.shape == reference.shape == (2, 2 * SR)
        return float(estimate.square().sum() / reference.square().sum())


def test_files_of_several_signals_are_rated_in_states_of_their_own():
    sources = torch.stack([CLEAN, noise(7)])
    signals = {"mixture": sources.sum(0).expand(2, -1), "separated": 2 * sources + 0.01, "sources": sources}
    rater = Rater([Level()], SR, reference="sources")
    row = rater.rate("a", signals, group=6.0)
    assert (row.id, row.group, row.faults) == ("a", 6.0, {"separated": "separated equals sources"})
    mixed = float(signals["mixture"].square().sum() / sources.square().sum())
    assert row.values["mixture"]["level"] == pytest.approx(mixed)
    assert math.isnan(row.values["separated"]["level"])
    one_is_silent = torch.stack([CLEAN, SILENT])
    assert rater.rate("b", {**signals, "sources": one_is_silent}).faults == {"sources": "sources is silent"}
    one_is_equal = torch.stack([CLEAN, noise(8)])
    assert faults_of({"sources": sources, "separated": one_is_equal}) == {"separated": "separated equals sources"}


def test_state_that_is_kept_is_not_mistaken_for_another_one_or_another_shape():
    class Names(SiSdr):
        def __call__(self, estimate, reference, *, sr):
            return float(len(estimate))

    rater = Rater([Names()], SR)
    first = rater.rate("a", {"noisy": NOISY, "enhanced": BETTER, "clean": CLEAN})
    pairs = {name: wave.reshape(2, SR) for name, wave in (("noisy", NOISY), ("enhanced", BETTER), ("clean", CLEAN))}
    second = rater.rate("a", pairs)
    assert [row.values["noisy"]["si_sdr"] for row in (first, second)] == [2 * SR, 2]


def test_only_the_last_state_is_rated_anew():
    metric = Counts()
    rater = Rater([metric], SR)
    for _ in range(3):
        rater.rate("a", {"clean": CLEAN, "noisy": NOISY, "baseline": CLEAN + noise(5), "enhanced": BETTER})
    assert metric.calls == 2 + 3


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        (
            {"noisy": NOISY, "enhanced": BETTER},
            "because the signals lack the reference `clean`",
        ),
        ({**GOOD, "enhanced": BETTER[:-1]}, "because its signals have different shapes"),
        ({**GOOD, "noisy": NOISY[None]}, "because its signals have different shapes"),
    ],
)
def test_signals_that_cannot_be_compared_are_an_error_with_the_id_of_the_file(signals, message):
    with pytest.raises(DataError, match=f"`street/7` can't be rated, {message}") as caught:
        Rater([SiSdr()], SR).rate("street/7", signals)
    assert caught.value.notes[0].startswith("given: noisy [")


# ----------------------------------------------------------------------------------------------- what metrics need


class Needs:
    """A metric that keeps what it is given, and has a value that tells the noise in the estimate."""

    label, unit, higher_is_better = "needs", "", False

    def __init__(self, *needs, name="needs"):
        self.needs, self.name, self.calls = needs, name, []

    def __call__(self, estimate, reference, *, sr, **given):
        self.calls.append((estimate, reference, given))
        return float(estimate.std())


def test_metric_gets_what_it_needs_and_nothing_else():
    metrics = [Needs(name="free"), Needs("clean", "noisy", name="input"), Needs("text", "far_end", name="words")]
    far_end = noise(9)
    Rater(metrics, SR).rate("a", GOOD, text="she had", far_end=far_end)
    for (estimate, *given), state in zip(metrics[0].calls, (NOISY, BETTER), strict=True):
        assert torch.equal(estimate, state)
        assert given == [None, {}]
    for (estimate, reference, given), state in zip(metrics[1].calls, (NOISY, BETTER), strict=True):
        assert torch.equal(estimate, state)
        assert torch.equal(reference, CLEAN)
        assert given.keys() == {"noisy"}
        assert torch.equal(given["noisy"], NOISY)
    for _, reference, given in metrics[2].calls:
        assert reference is None
        assert given["text"] == "she had"
        assert torch.equal(given["far_end"], far_end)


@pytest.mark.parametrize("clean", ["no key", None, SILENT, BETTER, spoiled(CLEAN, math.nan)])
def test_metric_without_a_reference_has_a_value_whatever_the_clean_signal_is(clean):
    signals = {"noisy": NOISY, "enhanced": BETTER} | ({} if isinstance(clean, str) else {"clean": clean})
    free = Needs(name="free")
    row = Rater([free], SR).rate("a", signals)
    assert row.values["enhanced"]["free"] == pytest.approx(float(BETTER.std()))
    assert row.faults == {}
    if "clean" in signals:
        metrics = [free, SiSdr()]
        row = Rater(metrics, SR).rate("a", signals)
        assert row.values["enhanced"]["free"] == pytest.approx(float(BETTER.std()))
        assert math.isnan(row.values["enhanced"]["si_sdr"])
        report = Report(metrics, [row])
        assert report.without_value(free) == ([], [])
        assert sum(map(len, report.without_value(metrics[1]))) == 1
        assert {"SI-SDR"} == {line.partition(":")[0] for line in (*report.faulty_pairs(), *report.faulty_outputs())}


@pytest.mark.parametrize(
    ("state", "wave", "reason"),
    [("noisy", SILENT, "noisy is silent"), ("enhanced", spoiled(BETTER, math.nan), "enhanced is not finite")],
)
def test_metric_without_a_reference_has_no_value_for_a_degenerate_estimate(state, wave, reason):
    metric = Needs()
    row = Rater([metric], SR).rate("a", {"noisy": NOISY, "enhanced": BETTER, state: wave})
    assert row.faults == {state: reason}
    assert [math.isnan(row.values[one]["needs"]) for one in ("noisy", "enhanced")] == [
        state == "noisy",
        state != "noisy",
    ]
    in_pair, in_output = Report([metric], [row]).without_value(metric)
    assert (len(in_pair), len(in_output)) == ((1, 0) if state == "noisy" else (0, 1))


def test_file_that_lacks_what_a_metric_needs_is_listed_and_not_part_of_the_mean():
    words, free = Needs("text", name="words"), Needs(name="free")
    rater = Rater([words, free], SR)
    rows = [rater.rate("a", GOOD, text="one"), rater.rate("b", GOOD)]
    assert rows[1].faults == {"text": "text is missing"}
    report = Report([words, free], rows)
    assert report.summary()["words_missing"] == 1
    assert "free_missing" not in report.summary()
    assert report.summary()["words"] == rows[0].values["enhanced"]["words"]
    assert report.faulty_pairs() == [
        "needs: 1 file is not in the mean, because the pair has no value: b (text is missing)"
    ]


def test_kept_values_depend_on_everything_that_a_metric_is_given():
    class Words(Needs):
        def __call__(self, estimate, reference, *, sr, text):
            return float(len(text))

    rater = Rater([Words("text")], SR)
    assert [rater.rate("a", GOOD, text=text).values["noisy"]["needs"] for text in ("one", "three", "one")] == [3, 5, 3]


def test_far_end_may_be_silent_but_not_of_another_length_or_faulty():
    rater = Rater([Needs("far_end", "noisy")], SR)
    assert rater.rate("a", GOOD, far_end=SILENT).faults == {}
    assert rater.rate("a", GOOD, far_end=spoiled(NOISY, math.nan)).faults == {"far_end": "far_end is not finite"}
    with pytest.raises(DataError, match="its signals have different shapes"):
        rater.rate("a", GOOD, far_end=SILENT[1:])


def test_input_of_the_network_has_the_name_of_its_state():
    metric = Needs("noisy")
    signals = {"mixture": NOISY, "separated": BETTER}
    Rater([metric], SR, noisy="mixture").rate("a", signals)
    assert torch.equal(metric.calls[-1][2]["noisy"], NOISY)
    with pytest.raises(DataError, match="the signals lack `noisy`, the input of the network"):
        Rater([metric], SR).rate("a", signals)


def test_mean_over_speakers_passes_on_what_a_metric_needs():
    metric = Needs("clean", "noisy", "far_end")
    whole = MeanOverSpeakers(metric)
    assert whole.needs == metric.needs
    speakers, far_end = torch.stack([CLEAN, NOISY]), noise(4)
    value = whole(2 * speakers, speakers, sr=SR, noisy=3 * speakers, far_end=far_end)
    assert value == pytest.approx(float(CLEAN.std() + NOISY.std()))
    for (estimate, reference, given), speaker in zip(metric.calls, speakers, strict=True):
        assert torch.equal(estimate, 2 * speaker)
        assert torch.equal(reference, speaker)
        assert torch.equal(given["noisy"], 3 * speaker)
        assert torch.equal(given["far_end"], far_end)
    assert MeanOverSpeakers(Needs())(speakers, None, sr=SR) == pytest.approx(float(CLEAN.std() + NOISY.std()) / 2)


@pytest.mark.parametrize("level", [1.0, 1e-3, 3e-8])
def test_short_look_at_the_middle_never_decides_otherwise_than_the_whole(level, monkeypatch):
    copies = [0.3 * CLEAN + 0.1, CLEAN * (1 + 1e-7), spoiled(CLEAN, 0.5), CLEAN.clone(), NOISY]
    copies += [CLEAN + level * noise(7, 1e-6), CLEAN + torch.where(torch.arange(2 * SR) > 2 * SR - 9, level, 0.0)]
    pairs = [{"clean": level * CLEAN, "enhanced": level * copy} for copy in copies]
    quick = [faults_of(pair) for pair in pairs]
    decided = [rating._differ_in_the_middle(pair["enhanced"], pair["clean"]) for pair in pairs]
    monkeypatch.setattr(rating, "_differ_in_the_middle", lambda *_: False)
    assert quick == [faults_of(pair) for pair in pairs]
    assert decided[4]
    assert not any(decided[:4])


def test_faults_of_a_file_are_looked_for_once_and_those_of_other_signals_anew(monkeypatch):
    calls = []
    monkeypatch.setattr(rating, "faults_of", lambda pair: calls.append(list(pair)) or faults_of(pair))
    known = rating.FaultCache()
    for metric in (SiSdr(), Stoi()):
        Rater([metric], SR, fault_cache=known).rate("a", {"clean": CLEAN, "enhanced": BETTER})
    assert calls == [["clean", "enhanced"]]
    row = Rater([SiSdr()], SR, fault_cache=known).rate("a", {"clean": CLEAN, "enhanced": SILENT})
    assert row.faults == {"enhanced": "enhanced is silent"}
