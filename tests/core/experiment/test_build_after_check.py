"""The build uses the results of the check: each `path` is resolved once, and each signature is read once."""

import textwrap
from collections import Counter
from pathlib import Path

import pytest

from audiozen_core.binding import ranges, signature
from audiozen_core.config import hooks as config_hooks
from audiozen_core.errors import AudioZenError, BuildError
from audiozen_core.experiment.dry_run import dry_run
from audiozen_core.experiment.experiment import Experiment
from audiozen_core.hooks import lifecycle
from audiozen_core.hooks.checks import hook_findings
from audiozen_core.hooks.lifecycle import Lifecycle, Plugin
from audiozen_core.registry import paths
from audiozen_core.registry.entry import FIRST_PARTY
from audiozen_core.registry.index import installed_index
from audiozen_core.testing.tiny import TinyExperiment as SpeechExperiment
from tests.tiny_experiment import TinyExperiment

PARTS = """\
import torch
from torch import nn
from audiozen_core.hooks.marker import hookimpl
from audiozen_core.trainer.base_trainer import BaseTrainer


class Trainer(BaseTrainer):
    def training_step(self, batch, batch_idx):
        fake = self.models["g"](batch)
        return {
            "loss_g": self.loss_function(fake, batch),
            "loss_d": self.loss_function(self.models["d"](batch), batch),
        }

    def validation_step(self, batch, batch_idx, dataloader_idx):
        return 0.0

    def validation_epoch_end(self, outputs):
        return 0.0

    def test_step(self, batch, batch_idx, dataloader_idx):
        return 0.0

    def test_epoch_end(self, outputs):
        return {}


class Encoder(nn.Linear):
    def __init__(self, size: int, activation=None):
        super().__init__(size, size)


class Net(nn.Module):
    def __init__(self, encoder: nn.Module, more: list | None = None):
        super().__init__()
        self.encoder = encoder
        assert all(isinstance(module, nn.Module) for module in more or [])

    def forward(self, x):
        return self.encoder(x)


class Data(torch.utils.data.Dataset):
    def __init__(self, length: int = 4):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return torch.ones(3)


class Order(torch.utils.data.Sampler):
    def __init__(self, data_source, backwards: bool = False):
        self.data_source = data_source

    def __len__(self):
        return len(self.data_source)

    def __iter__(self):
        return iter(range(len(self.data_source)))


def collate(samples, scale: float = 1.0):
    return scale * torch.stack(samples)


class Weighting:
    def __init__(self, power: int):
        self.power = power


class Hook:
    def __init__(self, weighting=None):
        self.weighting = weighting

    @hookimpl
    def on_epoch_end(self, trainer): ...


class Failing(nn.Module):
    def __init__(self, depth: int = 0, size=0, activation=None, encoder=None, data_source=None, optimizer=None):
        raise ValueError("depth must be even")
"""

TOML = """\
[meta]
save_dir = "exp"
device = "cpu"
[trainer]
path = "parts.Trainer"
[trainer.args]
max_epochs = 1
[model_g]
path = "parts.Net"
[model_g.args]
more = [{path = "torch.nn.ReLU"}, {path = "torch.nn.PReLU"}]
[model_g.args.encoder]
path = "parts.Encoder"
[model_g.args.encoder.args]
size = 3
activation = {path = "torch.nn.ReLU"}
[model_d]
path = "parts.Net"
args.encoder = {path = "parts.Encoder", args = {size = 3}}
[loss_function]
path = "torch.nn.functional.mse_loss"
args.reduction = "sum"
[optimizer_g]
path = "torch.optim.SGD"
args.lr = 0.1
[optimizer_d]
path = "torch.optim.SGD"
args.lr = 0.1
[lr_scheduler_g]
path = "torch.optim.lr_scheduler.SequentialLR"
args.milestones = [2]
[[lr_scheduler_g.args.schedulers]]
path = "torch.optim.lr_scheduler.ConstantLR"
[[lr_scheduler_g.args.schedulers]]
path = "torch.optim.lr_scheduler.StepLR"
args.step_size = 3
[dataset]
path = "parts.Data"
[dataset.dataloader]
collate_fn = {path = "parts.collate", args = {scale = 2.0}}
sampler = {path = "parts.Order", args = {backwards = true}}
[[validate_dataset]]
path = "parts.Data"
[[validate_dataset]]
path = "parts.Data"
dataloader.collate_fn = "parts.collate"
[[test_dataset]]
path = "parts.Data"
[[hooks]]
path = "parts.Hook"
args.weighting = {path = "parts.Weighting", args = {power = 2}}
[[hooks]]
path = "parts.Hook"
[[hooks]]
path = "tensorboard"
enabled = false
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parts.py").write_text(PARTS)
    (tmp_path / "exp.toml").write_text(TOML)
    return tmp_path / "exp.toml"


class Counts:
    """Counts how often each `path` is resolved, and how often the signature of each object is read.

    `ranges` counts the only second reads: a constructor with `check_ranges` reads the signature of its own class,
    because it may also be called from Python, without a check.
    """

    def __init__(self, monkeypatch):
        self.paths = Counter()
        self.signatures = Counter()
        self.ranges = Counter()
        self.well_formed = paths._well_formed
        # Every call of `resolve` calls this function.
        monkeypatch.setattr(paths, "_well_formed", self.counted_path)
        # Every call of `signature_of` calls one of these, even if it was imported under another name.
        for name in ("_of_class", "_of_function"):
            monkeypatch.setattr(signature, name, self.counted(getattr(signature, name)))
        monkeypatch.setattr(ranges, "signature_of", self.read_for_ranges)

    def counted_path(self, path):
        self.paths[path] += 1
        return self.well_formed(path)

    def counted(self, read):
        def counted(target):
            self.signatures[dotted(target)] += 1
            return read(target)

        return counted

    def read_for_ranges(self, target):
        read = signature.signature_of(target)
        self.signatures -= Counter([dotted(target)])
        self.ranges[dotted(target)] += 1
        return read


def dotted(target):
    return f"{target.__module__}.{target.__qualname__}"


def default_hooks():
    """Counts the default hooks, whose signatures the build reads, because no TOML file names these hooks."""
    return Counter(dotted(hook.target) for hook in config_hooks.default_hooks(installed_index(), {"tensorboard"}))


@pytest.fixture
def counts(monkeypatch):
    return Counts(monkeypatch)


def paths_in(value):
    """Returns the paths of all tables of a TOML file, except the disabled hook."""
    if isinstance(value, list):
        return [path for entry in value for path in paths_in(entry)]
    if not isinstance(value, dict) or value.get("enabled") is False:
        return []
    own = [value["path"]] if "path" in value else []
    own += [value["collate_fn"]] if isinstance(value.get("collate_fn"), str) else []
    return own + [path for entry in value.values() for path in paths_in(entry)]


# The classes of this build whose constructors call `check_ranges`. That of the trainer is called by its subclass.
WITH_RANGES = Counter(
    [
        "audiozen_core.trainer.base_trainer.BaseTrainer",
        "audiozen_plugins.hooks.amp.Amp",
        "audiozen_plugins.hooks.samples.Samples",
        "audiozen_plugins.hooks.signals.Signals",
    ]
)


@pytest.mark.parametrize("modes", [["train"], ["test"], ["train", "test"]])
def test_each_path_is_resolved_once_and_each_signature_read_once(recipe, counts, modes):
    experiment = Experiment.load(recipe, modes=modes)
    expected = Counter({*paths_in(experiment.checked.composition.values)})
    assert len(expected) == 15
    assert len(paths_in(experiment.checked.composition.values)) > 15  # several sections have the same path
    # The check looks at the class of each hook of AudioZEN for `default = True`, except at the disabled hook.
    hooks = [entry.name for entry in installed_index().entries("hooks") if entry.distribution == FIRST_PARTY]
    expected += Counter(f"audiozen:{name}" for name in hooks if name != "tensorboard")
    assert counts.paths == expected
    signatures = counts.signatures.copy()
    assert not counts.ranges
    with experiment.scope:
        trainer, loaders = experiment.build()
    assert counts.paths == expected
    assert counts.signatures - signatures == default_hooks()
    assert counts.ranges == WITH_RANGES
    assert set(counts.signatures.values()) == {1}
    assert {"parts.Net", "parts.Weighting", "parts.collate", "torch.nn.functional.mse_loss"} <= set(counts.signatures)
    # All components have really been built.
    assert trainer.models["g"].encoder.in_features == 3
    assert trainer.models["d"] is not trainer.models["g"]
    assert trainer.loss_function.keywords == {"reduction": "sum"}
    hooks = {plugin.name: plugin.instance for plugin in trainer.hooks.plugins}
    assert hooks["parts.Hook"].weighting.power == 2
    assert hooks["parts.Hook_2"].weighting is None
    assert set(loaders) == {"train", "validate", "test"} & {*modes, *(["validate"] if "train" in modes else [])}


def test_resume_with_a_changed_value_does_not_resolve_a_path_again(recipe, counts):
    Experiment.load(recipe, overrides=["trainer.args.max_epochs=1"]).run()
    experiment = Experiment.load(recipe, overrides=["trainer.args.max_epochs=2"])
    before = counts.paths.copy()
    experiment.run(resume=True)
    # A hook that is switched off is not part of the checked config.
    assert counts.paths - before == Counter(["tensorboard"])


def test_dry_run_does_not_resolve_a_path_again(recipe, counts):
    experiment = Experiment.load(recipe)
    before, signatures = counts.paths.copy(), counts.signatures.copy()
    assert dry_run(experiment)["batches"] == "4 an epoch"
    assert counts.paths == before
    # Each optimiser that has been built shows whether it has an argument `fused`.
    assert counts.signatures - signatures == default_hooks() + Counter({"torch.optim.sgd.SGD": 2})
    assert counts.ranges == WITH_RANGES


def test_counters_detect_a_second_resolve_and_a_second_read(recipe, counts):
    Experiment.load(recipe)
    once = counts.paths.copy(), counts.signatures.copy()
    Experiment.load(recipe)
    assert counts.paths == Counter({path: 2 * count for path, count in once[0].items()})
    assert max(counts.signatures.values()) > 1


METRIC = """\
import torch
from audiozen.metric import SiSdr
from audiozen.trainer import EnhancementTrainer
from audiozen import hookimpl


class Counted(SiSdr):
    made = []

    def __init__(self, name="counted"):
        super().__init__()
        self.name = name
        self.drawn = float(torch.rand(()))
        Counted.made.append(self)


class Late:
    @hookimpl
    def on_run_start(self, trainer): ...
"""


@pytest.fixture
def with_metrics(tmp_path):
    tiny = SpeechExperiment(tmp_path)
    (tmp_path / "own_metric.py").write_text(METRIC)
    table = {"path": "own_metric.Counted", "args": {"name": "other"}}
    tiny.set("trainer", score="own_metric.Counted", metrics=["own_metric.Counted", table, "stoi", "si_sdr"])
    tiny.add_hook("own_metric.Late")
    return tiny


def test_metric_is_resolved_once_and_made_once_for_the_check_and_once_for_each_build(with_metrics, counts):
    experiment = Experiment.load(with_metrics.write())
    names = ["own_metric.Counted", "stoi", "si_sdr"]
    assert {name: counts.paths[name] for name in names} == dict.fromkeys(names, 1)
    with experiment.scope:
        first, second = experiment.build()[0], experiment.build()[0]
    made = type(first.score).made
    # One `score` and two `metrics`: the check makes them to read their attributes, and each build makes its own.
    assert len(made) == 3 * 3
    assert [sorted(metric.name for metric in made[i : i + 3]) for i in (0, 3, 6)] == [
        ["counted", "counted", "other"]
    ] * 3
    used = [[trainer.score, *trainer.metrics[:2]] for trainer in (first, second)]
    assert [{*map(id, metrics)} for metrics in used] == [{*map(id, made[3:6])}, {*map(id, made[6:])}]
    # The metrics of a build draw the same numbers as those of another build, because a build seeds the generators. The
    # metrics of the check were made before.
    drawn = [metric.drawn for metric in made]
    assert drawn[3:6] == drawn[6:] != drawn[:3]
    assert {name: counts.paths[name] for name in names} == dict.fromkeys(names, 1)
    assert counts.signatures["own_metric.Counted"] == counts.signatures["audiozen_plugins.metric.stoi.Stoi"] == 1


def test_each_hook_class_is_examined_once(with_metrics, monkeypatch):
    examined = Counter()
    for module in (config_hooks, lifecycle):
        monkeypatch.setattr(
            module, "hook_findings", lambda cls, *more: examined.update([cls]) or hook_findings(cls, *more)
        )
    with_metrics.add_hook("own_metric.Late")  # a second hook of the same class
    experiment = Experiment.load(with_metrics.write())
    with experiment.scope:
        plugins = experiment.build()[0].hooks.plugins
    assert {type(plugin.instance) for plugin in plugins} == examined.keys()
    assert len(plugins) == len(examined) + 1
    assert set(examined.values()) == {1}
    # The negative control: a class that no check has examined.
    Lifecycle([Plugin("late", plugin.instance) for plugin in plugins if plugin.name == "own_metric.Late"])
    assert examined.most_common(1)[0][1] == 2


def test_build_uses_the_checked_objects(recipe):
    experiment = Experiment.load(recipe)
    checked = experiment.checked.component(experiment.config.components["model"]["g"])
    # The build must read neither the Python file nor the TOML file again.
    (recipe.parent / "parts.py").unlink()
    recipe.unlink()
    with experiment.scope:
        trainer, _ = experiment.build()
    assert type(trainer.models["g"]) is checked.target
    (encoder,) = [inner for inner in checked.walk() if inner.component.path == "parts.Encoder"]
    assert type(trainer.models["g"].encoder) is encoder.target


def test_arguments_of_a_loss_function_are_built_and_converted(recipe):
    (recipe.parent / "losses.py").write_text(
        textwrap.dedent("""\
        from pathlib import Path
        def loss(estimate, target, weighting=None, table: Path | None = None):
            return weighting.power, table
        """)
    )
    text = TOML.replace('"torch.nn.functional.mse_loss"\nargs.reduction = "sum"', '"losses.loss"\nargs.table = "a"\n')
    recipe.write_text(
        text.replace("[optimizer_g]", 'args.weighting = {path = "parts.Weighting", args.power = 2}\n[optimizer_g]')
    )
    experiment = Experiment.load(recipe)
    with experiment.scope:
        trainer, _ = experiment.build()
    assert trainer.loss_function(0, 0) == (2, Path("a"))


@pytest.mark.parametrize(
    ("old", "new", "header", "line"),
    [
        ('path = "parts.Net"\nargs.encoder', 'path = "parts.Failing"\nargs.encoder', "[model_d]", 18),
        ('{path = "torch.nn.PReLU"}', '{path = "parts.Failing"}', "[model_g.args.more.1]", 11),
        ('path = "parts.Encoder"\n', 'path = "parts.Failing"\n', "[model_g.args.encoder]", 13),
        (
            'activation = {path = "torch.nn.ReLU"}',
            'activation = {path = "parts.Failing", args = {depth = 3}}',
            "[model_g.args.encoder.args.activation]",
            16,
        ),
        (
            'path = "torch.optim.lr_scheduler.StepLR"\nargs.step_size = 3',
            'path = "parts.Failing"',
            "[lr_scheduler_g.args.schedulers.1]",
            35,
        ),
        ('"parts.collate", args = {scale = 2.0}', '"parts.Failing"', "[dataset.dataloader.collate_fn]", 40),
        ('"parts.Order", args = {backwards = true}', '"parts.Failing"', "[dataset.dataloader.sampler]", 41),
        ('"parts.Weighting", args = {power = 2}', '"parts.Failing"', "[hooks.0.args.weighting]", 51),
        ('path = "parts.Hook"\n[[hooks]]', 'path = "parts.Failing"\n[[hooks]]', "[hooks.1]", 53),
    ],
)
def test_error_names_a_constructor_that_raises_and_its_position(recipe, old, new, header, line):
    assert TOML.count(old) == 1
    recipe.write_text(TOML.replace(old, new))
    experiment = Experiment.load(recipe)
    with experiment.scope, pytest.raises(BuildError) as caught:
        experiment.build()
    error = caught.value
    assert error.message.startswith(f"{header} can't be built: `parts.Failing` raised ValueError: depth must be even")
    named, raised = error.notes[:2]  # a hook has a note about its component, too
    assert named.startswith(f"named in: {recipe}:{line}:")
    raising = PARTS.splitlines().index('        raise ValueError("depth must be even")') + 1
    assert raised == f"raised in: {recipe.parent / 'parts.py'}:{raising}, in __init__"
    assert f"{header[:-1]}.args]" in error.remedy


@pytest.mark.parametrize(
    ("raising", "message"),
    [
        ("from audiozen_core.errors import DataError; raise DataError('the file is gone')", "the file is gone"),
        ("import sys; sys.exit(0)", "[model_g.args.encoder] can't be built: `parts.Failing` raised SystemExit: 0"),
    ],
)
def test_error_of_our_own_and_an_exit_in_a_constructor_name_its_position(recipe, raising, message):
    parts = recipe.parent / "parts.py"
    parts.write_text(PARTS.replace('raise ValueError("depth must be even")', raising))
    recipe.write_text(TOML.replace('path = "parts.Encoder"\n', 'path = "parts.Failing"\n'))
    experiment = Experiment.load(recipe)
    with experiment.scope, pytest.raises(AudioZenError) as caught:
        experiment.build()
    assert caught.value.message == message
    assert caught.value.notes[0].startswith(f"named in: {recipe}:13:")


@pytest.mark.parametrize(
    ("section", "change"),
    [
        ("[model]", ('path = "torch.nn.Linear"\nargs = {in_features = 4, out_features = 1}', 'path = "parts.Stays"')),
        ("[loss_function]", ('path = "torch.nn.MSELoss"', 'path = "parts.Stays"')),
    ],
)
def test_module_that_cannot_be_moved_to_the_device_is_named(tmp_path, section, change):
    tiny = TinyExperiment(
        tmp_path,
        "class Stays(nn.Linear):\n"
        "    def __init__(self):\n        super().__init__(4, 1)\n        self.requires_grad_(False)\n"
        "    def to(self, *arguments):\n        raise ValueError('no device')\n",
    )
    with pytest.raises(BuildError) as caught:
        tiny.build(change)
    message = f"{section} can't be moved to the device `cpu`: Stays raised ValueError: no device"
    assert caught.value.message == message
