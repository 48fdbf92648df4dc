"""Small experiments are evaluated with the mean, which is compared with one that is computed by hand."""

import pytest
import torch
from audiozen import AudioZenError, hookimpl
from audiozen.testing import HookRecorder, TinyExperiment

from audiozen_plugin_swa.hooks import Swa


class Watch(HookRecorder):
    """Records the weights after each step, and those of each evaluation."""

    def __init__(self):
        super().__init__()
        self.trained, self.evaluated = [], []

    @hookimpl
    def on_optimizer_step_end(self, trainer):
        self.trained.append(trainer.model.weight.detach().clone())

    @hookimpl
    def on_evaluation_step_end(self, trainer, batch_idx):
        if batch_idx == 0:
            self.evaluated.append(trainer.model.weight.detach().clone())


def experiment_in(folder, epochs=3, **args):
    experiment = TinyExperiment(folder).set("trainer", max_epochs=epochs).set("optimizer", lr=0.01)
    experiment.set("model", "torch.nn.Conv1d", in_channels=65, out_channels=65, kernel_size=3, padding=1)
    return experiment.add_hook("swa", **args)


def test_evaluations_use_the_mean_of_the_steps_that_count(tmp_path):
    watch = Watch()
    experiment_in(tmp_path, start=2, every=2).run("train", hooks=watch)
    expected = [torch.stack(watch.trained[1:last:2]).double().mean(0).float() for last in (2, 4, 6)]
    for found, mean in zip(watch.evaluated, expected, strict=True):
        torch.testing.assert_close(found, mean, rtol=0, atol=1e-6)
    assert not torch.equal(watch.evaluated[-1], watch.trained[-1])


def test_a_resumed_run_has_the_mean_of_an_uninterrupted_one(tmp_path):
    watches = Watch(), Watch(), Watch()
    for name in ("whole", "halves"):
        (tmp_path / name).mkdir()
    experiment_in(tmp_path / "whole", start=2, every=2).run("train", hooks=watches[0])
    halves = experiment_in(tmp_path / "halves", epochs=2, start=2, every=2)
    halves.run("train", hooks=watches[1])
    halves.set("trainer", max_epochs=3).run("train", resume=True, hooks=watches[2])
    assert torch.equal(watches[2].evaluated[-1], watches[0].evaluated[-1])


def test_the_user_chooses_the_weights_of_a_test(tmp_path):
    experiment, watch = experiment_in(tmp_path), Watch()
    experiment.run("train")
    for weights in ("swa", "raw"):
        experiment.run("test", weights=weights, hooks=watch)
    assert not torch.equal(*watch.evaluated)


def test_arguments_that_are_out_of_range_are_an_error(tmp_path):
    with pytest.raises(AudioZenError, match="every"):
        experiment_in(tmp_path, every=0).run("train")


def test_weights_that_count_alike_have_the_mean_of_all():
    hook = Swa(start=3, every=2)
    assert [hook.decay_at(step) for step in range(1, 8)] == [0, 0, 0, 1, 1 / 2, 1, 2 / 3]
