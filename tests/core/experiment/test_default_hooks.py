"""Which hooks run although the TOML file does not name them."""

from audiozen_core.config.hooks import default_hooks
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.registry.entry import Entry
from audiozen_core.registry.index import PluginIndex, installed_index
from audiozen_plugins.hooks.patience import Patience
from audiozen_plugins.hooks.tensorboard import TensorBoard
from tests.tiny_experiment import TinyExperiment

OURS = [
    "amp",
    "checkpoint",
    "clip_grad_norm",
    "metrics_jsonl",
    "nonfinite",
    "patience",
    "progress",
    "resources",
    "samples",
    "signals",
    "tensorboard",
]


def names(index=None, **options):
    return [found.entry.name for found in default_hooks(index or installed_index(), **options)]


def test_default_hooks_are_the_audiozen_hooks_whose_class_sets_default(monkeypatch):
    assert names() == OURS
    monkeypatch.setattr(Patience, "default", False)
    assert names() == [name for name in OURS if name != "patience"]


def test_hook_that_the_file_names_is_not_a_default():
    assert names(named=["progress", "signals"]) == [name for name in OURS if name not in ("progress", "signals")]


def test_a_hook_of_another_distribution_never_becomes_a_default():
    value = "audiozen_plugins.hooks.patience:Patience"
    foreign = PluginIndex([*installed_index(), Entry("audiozen.hooks", "theirs", value, "acme", "1.0")])
    assert Patience.default
    assert names(foreign) == OURS


def test_default_hook_is_built_with_the_arguments_of_its_class(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(TensorBoard, "__init__", lambda self, required=True, histogram_epochs=0: seen.append(required))
    Experiment.load(TinyExperiment(tmp_path).write()).lifecycle()
    assert seen == [False]
