"""Classes of torchmetrics are metrics by their paths."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch

from audiozen_core.errors import RunError
from audiozen_core.scoring.chosen import build_metric
from audiozen_core.testing.tiny import TinyExperiment

# `importorskip` would import torchmetrics in each process that collects the tests.
pytestmark = pytest.mark.skipif(find_spec("torchmetrics") is None, reason="torchmetrics is not installed")

PATH = "torchmetrics.audio.ScaleInvariantSignalNoiseRatio"


def test_metric_has_the_name_the_unit_and_the_direction_of_its_class():
    metric = build_metric({"path": PATH})
    assert metric.name == "scale_invariant_signal_noise_ratio"
    assert (metric.label, metric.unit, metric.higher_is_better) == ("ScaleInvariantSignalNoiseRatio", "dB", True)


def test_each_file_is_rated_by_itself():
    metric, own = build_metric({"path": PATH}), build_metric("si_sdr")
    generator = torch.Generator().manual_seed(0)
    for scale in (0.1, 1.0, 0.3):
        clean = torch.randn(4000, generator=generator)
        noisy = clean + scale * torch.randn(4000, generator=generator)
        assert metric(noisy, clean, sr=16000) == pytest.approx(own(noisy, clean, sr=16000), abs=1e-3)


def test_metric_that_does_not_say_its_direction_is_an_error():
    with pytest.raises(RunError, match="`MeanMetric` of torchmetrics does not say whether a higher value is better"):
        build_metric({"path": "torchmetrics.MeanMetric"})


def test_experiment_is_scored_and_tested_with_a_class_of_torchmetrics(tmp_path):
    tiny = TinyExperiment(tmp_path).set("trainer", score={"path": PATH}, metrics=["si_sdr", {"path": PATH}])
    outcome = tiny.run("train", "test")
    name = "scale_invariant_signal_noise_ratio"
    assert outcome.metrics("validate/score") == outcome.metrics(f"validate/{name}")
    (theirs,), (ours,) = outcome.metrics(f"test/{name}"), outcome.metrics("test/si_sdr")
    assert theirs == pytest.approx(ours, abs=1e-3)
