"""An evaluation warns if the checkpoint was saved with other settings for what the networks compute."""

import re

import pytest

from tests.tiny_experiment import TinyExperiment

PARTS = """
class Net(nn.Linear):
    def __init__(self, gain: float = 1.0):
        super().__init__(4, 1)
        self.gain = gain

    def forward(self, x):
        return self.gain * super().forward(x)


class Gained(Trainer):
    resume_safe = ("plot",)
    only_for_runs = ("weights",)

    def __init__(self, components, *, floor: float = 0.0, plot: bool = False, weights: dict | None = None, **kwargs):
        super().__init__(components, **kwargs)

    def predict_step(self, batch, batch_idx, dataloader_idx):
        pass


class Scales:
    def __init__(self, by: float = 1.0):
        self.by = by

    @hookimpl
    def on_component_built(self, section, component):
        if section == "model":
            component.gain *= self.by


class Watches:
    affects_training = False

    def __init__(self, by: float = 1.0): ...

    @hookimpl
    def on_run_start(self, trainer): ...


class OfTraining:
    affects_outputs = False

    def __init__(self, by: float = 1.0):
        self.by = by

    @hookimpl
    def on_gradients_ready(self, trainer): ...

    def state_dict(self):
        return {"by": self.by}

    def load_state_dict(self, state): ...
"""
BASE = (
    (
        "[dataset]",
        '[[hooks]]\npath = "parts.Scales"\n[[hooks]]\npath = "parts.Watches"\n[[hooks]]\npath = "parts.OfTraining"\n'
        "[dataset]",
    ),
    ('path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}', 'path = "parts.Net"\nargs.gain = 2.0'),
    ('"parts.Trainer"', '"parts.Gained"'),
    ("[validate_dataset]", '[predict_dataset]\npath = "parts.Data"\n[validate_dataset]'),
)
WARNING = "so the outputs of the networks may differ"
UNUSED = "states that this experiment does not use"
MODEL = ("gain = 2.0", "gain = 3.0")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Gives an experiment that has been trained."""
    tiny = TinyExperiment(tmp_path_factory.mktemp("trained"), PARTS)
    tiny.run(*BASE, modes=("train", "validate", "test"))
    return tiny


def warnings(tiny, capfd, *changes, modes=("test",), **options):
    capfd.readouterr()
    tiny.run(*BASE, *changes, modes=modes, **options)
    return [line for line in capfd.readouterr().err.splitlines() if WARNING in line or UNUSED in line]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (MODEL, "model.args.gain: 2.0 -> 3.0"),
        (("[model]", "[acoustics]\nsr = 8000\n[model]"), "acoustics.sr: (not set) -> 8000"),
        (("max_epochs = 2", "max_epochs = 2\nfloor = 0.5"), "trainer.args.floor: (not set) -> 0.5"),
        (('device = "cpu"', 'device = "cpu"\nuse_amp = true'), "meta.use_amp: (not set) -> true"),
        (('"parts.Scales"', '"parts.Scales"\nargs.by = 5.0'), 'hooks."parts.Scales".args.by: (not set) -> 5.0'),
    ],
    ids=["model", "acoustics", "trainer", "precision", "hook"],
)
def test_setting_that_decides_what_the_network_computes_is_named_with_both_values(tiny, capfd, change, said):
    (warning,) = warnings(tiny, capfd, change)
    assert said in warning
    assert warning.count("->") == 1


def test_default_hook_that_sets_the_precision_is_missed(tiny, capfd):
    warning, *_ = warnings(tiny, capfd, ("[dataset]", '[[hooks]]\npath = "amp"\nenabled = false\n[dataset]'))
    assert WARNING in warning
    assert "hooks.amp.enabled: (not set) -> false" in warning


@pytest.mark.parametrize("mode", ["validate", "predict"])
def test_every_mode_of_evaluation_warns_once(tiny, capfd, mode):
    (warning,) = warnings(tiny, capfd, MODEL, modes=(mode,))
    assert "model.args.gain: 2.0 -> 3.0" in warning


def test_all_changes_are_in_one_warning(tiny, capfd):
    (warning,) = warnings(tiny, capfd, MODEL, ("[model]", "[acoustics]\nsr = 8000\n[model]"))
    assert len(re.findall(r"\w+\.\w+: \S+", warning)) == 2


@pytest.mark.parametrize(
    "change",
    [
        ("[model]", "[model]"),
        ("max_epochs = 2", "max_epochs = 5\nplot = true\nlog_interval = 1"),
        ("max_epochs = 2", "max_epochs = 2\nclip_grad_norm_value = 1.0\ngradient_accumulation_steps = 2"),
        ("max_epochs = 2", 'max_epochs = 2\nmonitor = "loss"\nsave_max_score = false'),
        ("max_epochs = 2", "max_epochs = 2\nweights = {stoi = 0.5, pesq = 0.5}"),
        ("args.lr = 0.1", "args.lr = 0.2"),
        ('[test_dataset]\npath = "parts.Data"', '[test_dataset]\npath = "parts.Data"\nargs.size = 8'),
        ('device = "cpu"', 'device = "cpu"\nnum_threads = 1'),
        ('"parts.Watches"', '"parts.Watches"\nargs.by = 5.0'),
        ('"parts.OfTraining"', '"parts.OfTraining"\nargs.by = 5.0'),
        ('"parts.OfTraining"', '"parts.OfTraining"\nenabled = false'),
        ("[dataset]", '[[hooks]]\npath = "nonfinite"\nenabled = false\n[dataset]'),
        ("[dataset]", '[[hooks]]\npath = "clip_grad_norm"\nenabled = false\n[dataset]'),
    ],
    ids=[
        *("none", "safe", "gradients", "score", "only for runs", "optimizer", "data", "threads", "watching hook"),
        *("hook of training", "without it", "without nonfinite", "without clipping"),
    ],
)
def test_other_changes_are_no_warning(tiny, capfd, change):
    assert not warnings(tiny, capfd, change)


def test_test_after_its_training_has_no_warning(tmp_path, capfd):
    tiny = TinyExperiment(tmp_path, PARTS)
    assert not warnings(tiny, capfd, modes=("train", "validate", "test"))
