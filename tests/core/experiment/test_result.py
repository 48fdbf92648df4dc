"""What `Experiment.run` returns."""

import pytest

from audiozen_core.errors import RunError
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.hooks.ending import RunEnding
from audiozen_core.testing.tiny import TinyExperiment


def test_run_returns_the_result_of_each_mode_and_the_checkpoints(tmp_path):
    tiny = TinyExperiment(tmp_path).set("trainer", max_epochs=2)
    result = Experiment.load(tiny.write(), modes=["train", "test", "predict"]).run()
    assert (result.folder, list(result.modes)) == (tmp_path / "exp/tiny", ["train", "test", "predict"])
    trained, tested, predicted = result.modes.values()
    assert trained.ending == RunEnding("finished", "max_epochs = 2 is reached")
    assert (trained.epoch, trained.step, trained.folder) == (2, 4, None)
    assert result.latest.name == "epoch_0002"
    assert result.best.name == f"epoch_{trained.best_epoch:04d}"
    assert trained.best_epoch == 1
    # The scalars are those of the last epoch, which is worse than the best one.
    assert trained.scalars["validate/score"] < trained.best_score
    # The test uses the best weights, and the validation set is the test set here.
    assert abs(tested.scalars["test/si_sdr"] - trained.best_score) < 1e-6
    assert (tested.epoch, tested.folder) == (trained.best_epoch, result.folder / f"test/best_{result.best.name}")
    assert (tested.folder / "0/scores.csv").exists()
    assert len(list((predicted.folder / "0").iterdir())) == 4
    assert predicted.scalars == {}


def test_training_without_a_validation_has_no_best_checkpoint(tmp_path):
    tiny = TinyExperiment(tmp_path).set("trainer", max_epochs=1)
    del tiny.values["validate_dataset"]
    result = Experiment.load(tiny.write()).run()
    assert (result.best, result.modes["train"].best_score, result.modes["train"].scalars) == (None, None, {})
    assert result.latest.name == "epoch_0001"


@pytest.mark.parametrize(
    ("modes", "message", "remedy"),
    [
        (["tset"], "unknown mode `tset`", "did you mean `test`?"),
        ("tset", "unknown mode `tset`", "did you mean `test`?"),
        ("test", "`modes` is a string, but must be a list", 'write `modes=["test"]`'),
        (["sing"], "unknown mode `sing`", "the modes are train, finetune, validate, test, predict"),
    ],
)
def test_wrong_modes_are_named(tmp_path, modes, message, remedy):
    with pytest.raises(RunError) as error:
        Experiment.load(TinyExperiment(tmp_path).write(), modes=modes)
    assert (error.value.message, error.value.remedy) == (message, remedy)
