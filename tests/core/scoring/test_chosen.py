"""Metrics that can't be used are refused before anything runs: by the trainer and by `audiozen check`."""

from __future__ import annotations

import numpy as np
import pytest

from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.errors import AudioZenError, DataError, RunError
from audiozen_core.scoring.chosen import build_metrics, check_metrics
from audiozen_core.scoring.metric import Metric
from audiozen_core.scoring.rating import RatedFile
from audiozen_core.scoring.report import Report, scalar_names
from audiozen_plugins.trainer.enhancement import EnhancementTrainer


class Mine(Metric):
    """A metric of a recipe, whose constructor sets its name and its rates."""

    label, unit, higher_is_better = "MINE", "", True

    def __init__(self, name: str = "mine", **attributes):
        self.name = name
        vars(self).update(attributes)

    def __call__(self, estimate, reference, *, sr):
        return 1.5


def named(name="mine", **attributes):
    return {"path": f"{__name__}.Mine", "args": {"name": name, **attributes}}


def both(*metrics):
    """Returns the error of the trainer, and what `check` says about the same metrics; "" if they are accepted."""
    findings = EnhancementTrainer.check_settings(
        {"metrics": list(metrics)}, acoustics=Acoustics(sr=16000), dataset_names={}
    )
    checked = "".join(finding.message for finding in findings if finding.severity == "error")
    try:
        build_metrics(metrics, 16000)
    except RunError as error:
        return error.message, checked
    return "", checked


class Unbuildable(Mine):
    def __init__(self, error="value"):
        raise {"value": ValueError("no weights"), "exit": SystemExit(0), "audiozen": DataError("no file")}[error]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (f"{__name__}.Unbuildable", f"the metric `{__name__}.Unbuildable` can't be built: ValueError: no weights"),
        ({"args": {}}, f"the metric `{__name__}.Unbuildable` can't be built: ValueError: no weights"),
        ({"args": {"error": "exit"}}, f"the metric `{__name__}.Unbuildable` can't be built: SystemExit: 0"),
        ({"args": {"error": "audiozen"}}, "no file"),
    ],
)
def test_metric_whose_constructor_raises_is_an_error_of_the_run_and_of_check(spec, message):
    if isinstance(spec, dict):
        spec["path"] = f"{__name__}.Unbuildable"
    with pytest.raises(AudioZenError) as caught:
        build_metrics([spec], 16000)
    assert caught.value.message == message
    settings = {"metrics": ["si_sdr", spec]}
    (found,) = EnhancementTrainer.check_settings(settings, acoustics=Acoustics(sr=16000), dataset_names={})
    assert (found.message, found.severity, found.place) == (message, "error", ("args", "metrics", 1))
    raised = [note for note in found.notes if note.startswith(f"raised in: {__file__}:")]
    assert len(raised) == (message != "no file")


@pytest.mark.parametrize("rates", [16000, "16000", ["16000"], {"wide": 16000}, [None], 1.5, True])
def test_rates_that_are_no_collection_of_numbers_are_a_clear_error(rates):
    run, checked = both(named(sample_rates=rates))
    assert run == checked
    assert run.startswith("`sample_rates` of the metric `mine` is ")


@pytest.mark.parametrize("rates", [None, (16000,), [8000, 16000], {16000}, (16000.0,), range(8000, 16001, 8000)])
def test_rates_in_any_collection_are_accepted(rates):
    assert both(named(sample_rates=rates)) == ("", "")
    assert build_metrics([Mine(sample_rates=np.array([16000]))], 16000)[1] == []


@pytest.mark.parametrize("suffix", ["noisy", "gain", "missing"])
def test_metric_with_the_name_of_a_scalar_of_another_metric_is_refused_in_either_order(suffix):
    first, second = named("a"), named(f"a_{suffix}")
    for metrics in ((first, second), (second, first)):
        run, checked = both(*metrics)
        assert run == checked
        assert f"would both record the scalar `a_{suffix}`" in run
    assert both(named("a"), named("a_enhanced"), named("b_noisy"), named("gain")) == ("", "")


def test_scalar_names_are_those_that_a_report_has():
    rows = [
        RatedFile("x", {"noisy": {"a": 1.0}, "enhanced": {"a": 3.0}}),
        RatedFile("y", {"noisy": {"a": float("nan")}, "enhanced": {"a": 1.0}}),
    ]
    summary = Report([Mine("a")], rows).summary()
    assert summary == dict(zip(scalar_names("a"), (3.0, 1.0, 2.0, 1), strict=True))
    assert tuple(Report([Mine("a")], rows[:1]).summary()) == scalar_names("a")[:3]


def test_names_of_wrapped_metrics_are_compared():
    def wrap(metric):
        return metric if metric.name.startswith("pit_") else Mine(f"pit_{metric.name}")

    metrics = [named("a"), named("pit_a")]
    with pytest.raises(RunError, match="the metric `pit_a` is listed twice"):
        build_metrics(metrics, 16000, wrap=wrap)
    [finding] = check_metrics(metrics, "metrics", sr=16000, wrap=wrap)
    assert (finding.message, finding.severity) == ("the metric `pit_a` is listed twice", "error")
    # Without the wrapper, they have different names.
    assert both(*metrics) == ("", "")
    built, _ = build_metrics([named("a"), named("pit_b")], 16000, wrap=wrap)
    assert [metric.name for metric in built] == ["pit_a", "pit_b"]


def test_sample_rate_is_that_of_the_metric_that_is_wrapped():
    [reason] = build_metrics([named(sample_rates=[8000])], 16000, wrap=lambda metric: Mine("wrapped"))[1]
    assert "leave `mine` out" in reason.remedy


@pytest.mark.parametrize("needs", ["clean", ["clean"], ("sound",), None, {"clean"}])
def test_needs_of_another_form_are_a_clear_error(needs):
    run, checked = both(named(needs=needs))
    assert run == checked
    assert run.startswith("`needs` of the metric `mine` is ")


def test_metric_that_needs_what_the_files_lack_is_left_out():
    metrics = [named("a"), named("b", needs=()), named("c", needs=("far_end", "text"))]
    built, left_out = build_metrics(metrics, 16000, available=("noisy",))
    assert [metric.name for metric in built] == ["b"]
    assert [error.message for error in left_out] == [
        "MINE needs `clean`, which the files lack",
        "MINE needs `far_end` and `text`, which the files lack",
    ]
    assert len(build_metrics(metrics, 16000)[0]) == 3
