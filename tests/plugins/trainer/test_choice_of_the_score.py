"""Which metric of which data set is the score, in which direction, and what `check` says about that choice."""

import pytest
from torch import nn

from audiozen.metric import SiSdr
from audiozen_core.audio.acoustics import Acoustics
from audiozen_core.errors import RunError
from audiozen_core.trainer.components import Components
from audiozen_plugins.trainer.enhancement import EnhancementTrainer
from tests.plugins.trainer.test_file_by_file import Norm, loader, make


class Distance:
    """A metric whose lower values are better."""

    name, label, unit = "distance", "DISTANCE", ""
    higher_is_better = False

    def __call__(self, estimate, reference, *, sr):
        return (estimate - reference).abs().mean().item()


def test_best_epoch_is_the_best_one_whichever_direction_the_score_has(tmp_path):
    """`save_max_score` and the metric agree, or nothing starts."""
    with pytest.raises(RunError, match="DISTANCE is better when lower") as error:
        make(tmp_path, Norm(), score=Distance())
    assert "save_max_score = false" in error.value.remedy
    with pytest.raises(RunError, match="SI-SDR is better when higher"):
        make(tmp_path, Norm(), save_max_score=False)
    trainer = make(tmp_path, Norm(), score=Distance(), save_max_score=False)
    for gain, best in ((0.0, 1), (1.0, 2), (3.0, 2)):  # the distance falls, and rises again
        nn.init.constant_(trainer.model.last.weight, gain - 1)
        trainer.progress.epoch += 1
        trainer._validate([loader()])
        assert trainer.progress.best_epoch == best


class OwnScore(EnhancementTrainer):
    """Uses the loss as the score."""

    def validation_epoch_end(self, outputs):
        result = dict(super().validation_epoch_end(outputs))
        return {**result, "score": result["loss"]}


def test_trainer_that_computes_its_own_score_chooses_the_direction(tmp_path):
    components = Components({"": Norm()}, loss_functions={"": nn.L1Loss()}, folder=tmp_path)
    assert not OwnScore(components, domain="waveform", save_max_score=False).save_max_score
    arguments = {"acoustics": Acoustics(), "dataset_names": {"validate": ["0"]}}
    assert not list(OwnScore.check_settings({"save_max_score": False, "metrics": []}, **arguments))


@pytest.mark.parametrize("name", ["loss", "score"])
def test_metric_with_the_name_of_another_scalar_is_refused(tmp_path, name):
    metric = SiSdr()
    metric.name = name
    for args in ({"score": metric}, {"metrics": [metric]}):
        with pytest.raises(RunError, match=f"a metric can't have the `name` `{name}`"):
            make(tmp_path, Norm(), **args)


def test_metric_that_is_listed_twice_is_an_error_before_anything_runs(tmp_path):
    with pytest.raises(RunError, match="`si_sdr` is listed twice"):
        make(tmp_path, Norm(), metrics=["si_sdr", "stoi", {"path": "si_sdr", "args": {"zero_mean": True}}])
    make(tmp_path, Norm(), metrics=["si_sdr", {"path": "si_sdr", "args": {"zero_mean": False}}])


class LowerByDefault(EnhancementTrainer):
    """Has other defaults: `save_max_score` contradicts the score, and `pesq` may not take the sample rate."""

    def __init__(self, components, *, save_max_score: bool = False, metrics=("si_sdr", "pesq"), **kwargs):
        super().__init__(components, save_max_score=save_max_score, metrics=metrics, **kwargs)


def found(cls, args=None, sr=16000):
    names = {"validate": ["easy", "hard"]}
    findings = cls.check_settings(args or {}, acoustics=Acoustics(sr=sr), dataset_names=names)
    return [(finding.place, finding.severity, finding.message) for finding in findings]


def test_check_finds_what_the_trainer_would_refuse():
    assert not found(EnhancementTrainer, {"metrics": ["si_sdr"]})
    (finding,) = found(EnhancementTrainer, {"metrics": ["si_sdr"], "save_max_score": False})
    assert finding[:2] == (("args", "score"), "error")
    assert "SI-SDR is better when higher, but with `save_max_score = false`" in finding[2]
    (finding,) = found(EnhancementTrainer, {"metrics": ["si_sdr", "stoi", "si_sdr"]})
    assert finding == (("args", "metrics", 2), "error", "the metric `si_sdr` is listed twice")
    (finding,) = found(EnhancementTrainer, {"metrics": [], "score_dataset": "heard"})
    assert finding[:2] == (("args", "score_dataset"), "error")
    assert "no validation set has this name" in finding[2]


def test_score_dataset_without_a_validation_set_is_a_warning():
    args = {"metrics": [], "score_dataset": "heard"}
    (finding,) = EnhancementTrainer.check_settings(args, acoustics=Acoustics(), dataset_names={})
    assert (finding.severity, finding.place) == ("warning", ("args", "score_dataset"))
    assert finding.message == "`score_dataset` has no effect without a validation set"
    assert not list(EnhancementTrainer.check_settings({"metrics": []}, acoustics=Acoustics(), dataset_names={}))


def test_check_uses_the_defaults_of_the_class_that_is_checked():
    pytest.importorskip("pesq", reason="pesq is not installed")
    places = [finding[0] for finding in found(LowerByDefault, sr=48000)]
    assert places == [("args", "score"), ("args", "metrics", 1)]
    assert not found(LowerByDefault, {"save_max_score": True})


# ----------------------------------------------------------------------------------------------- chunks
