"""Which hooks run although the TOML file does not name them."""

from audiozen_core.experiment import build
from audiozen_core.registry.entry import Entry
from audiozen_core.registry.index import PluginIndex, installed_index
from audiozen_plugins.hooks.patience import Patience
from audiozen_plugins.hooks.tensorboard import TensorBoard

OURS = [
    "amp",
    "checkpoint",
    "clip_grad_norm",
    "metrics_jsonl",
    "nonfinite",
    "patience",
    "progress",
    "signals",
    "tensorboard",
]


def names(**options):
    return [plugin.name for plugin in build.default_hooks(**options)]


def test_default_hooks_are_the_audiozen_hooks_whose_class_sets_default(monkeypatch):
    assert names() == OURS
    monkeypatch.setattr(Patience, "default", False)
    assert names() == [name for name in OURS if name != "patience"]


def test_hook_that_the_file_names_is_not_built_as_a_default():
    assert names(named=["progress", "signals"]) == [name for name in OURS if name not in ("progress", "signals")]


def test_a_hook_of_another_distribution_never_becomes_a_default(monkeypatch):
    value = "audiozen_plugins.hooks.patience:Patience"
    foreign = PluginIndex([*installed_index(), Entry("audiozen.hooks", "theirs", value, "acme", "1.0")])
    monkeypatch.setattr(build, "installed_index", lambda: foreign)
    assert Patience.default
    assert names() == OURS


def test_default_hook_is_built_with_the_arguments_of_its_class(monkeypatch):
    seen = []
    monkeypatch.setattr(TensorBoard, "__init__", lambda self, required=True: seen.append(required))
    build.default_hooks()
    assert seen == [False]
