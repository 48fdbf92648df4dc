"""Which settings have changed since a checkpoint was saved, and whether they affect training."""

from pathlib import Path

import pytest

from audiozen_core.errors import CheckpointError
from audiozen_core.experiment.config_diff import compare_configs, refuse_changes
from audiozen_core.experiment.resume import find_component


def drift(before, now, find=find_component):
    return compare_configs(before, now, find)


BEFORE = """
[meta]
save_dir = "exp"
seed = 1
[trainer]
path = "enhancement"
[trainer.args]
max_epochs = 3
[model]
path = "sdnn"
[model.args]
hidden = [1, 2]
[optimizer]
path = "torch.optim.Adam"
args.lr = 0.1
[dataset]
path = "mix"
[dataset.args]
root = "a"
[dataset.dataloader]
batch_size = 4
num_workers = 0
[[validate_dataset]]
path = "mix"
[[hooks]]
path = "ema"
[hooks.args]
decay = 0.9
[[hooks]]
path = "progress"
"""

AFFECTING = [
    ("seed = 1", "seed = 2", "meta.seed: 1 -> 2"),
    ("[model.args]", "[model.args]\nmore = 1", "model.args.more: (not set) -> 1"),
    ("hidden = [1, 2]", "hidden = [1, 3]", "model.args.hidden: [1, 2] -> [1, 3]"),
    ("args.lr = 0.1", "args.lr = 0.2", "optimizer.args.lr: 0.1 -> 0.2"),
    ('root = "a"', 'root = "b"', 'dataset.args.root: "a" -> "b"'),
    ("batch_size = 4", "batch_size = 8", "dataset.dataloader.batch_size: 4 -> 8"),
    ("max_epochs = 3", "clip_grad_norm_value = 1.0\nmax_epochs = 3", "clip_grad_norm_value"),
    ("decay = 0.9", "decay = 0.99", "hooks.ema.args.decay: 0.9 -> 0.99"),
    ("[meta]", "[meta]\nuse_amp = true", "meta.use_amp"),
    ('[[validate_dataset]]\npath = "mix"', '[[validate_dataset]]\npath = "other"', "validate_dataset.0.path"),
]
SAFE = [
    ('save_dir = "exp"', 'save_dir = "other"'),
    ("max_epochs = 3", "max_epochs = 9\nsave_ckpt_interval_steps = 5\npatience = 3\non_nonfinite = 'skip'"),
    ("num_workers = 0", "num_workers = 2\npin_memory = true"),
    ("[meta]", "[meta]\nnum_threads = 2"),
    ('[[hooks]]\npath = "progress"', ""),
    ("[dataset]", "[test_dataset]\npath = 'mix'\n[dataset]"),
]


@pytest.mark.parametrize(("old", "new", "shown"), AFFECTING, ids=lambda value: value[:20])
def test_error_shows_a_change_that_affects_training(old, new, shown):
    assert old in BEFORE
    with pytest.raises(CheckpointError) as error:
        refuse_changes(drift(BEFORE, BEFORE.replace(old, new)))
    assert any(shown in note for note in error.value.notes)
    assert "`--allow-drift` (in Python `allow_drift=True`)" in error.value.remedy


@pytest.mark.parametrize(("old", "new"), SAFE, ids=lambda value: value[:20])
def test_safe_change_is_reported_and_accepted(old, new):
    assert old in BEFORE
    changes = drift(BEFORE, BEFORE.replace(old, new))
    assert changes
    refuse_changes(changes)


def test_the_order_of_hooks_is_not_a_change():
    first, second = BEFORE.index('[[hooks]]\npath = "ema"'), BEFORE.index('[[hooks]]\npath = "progress"')
    assert drift(BEFORE, BEFORE[:first] + BEFORE[second:] + BEFORE[first:second]) == []


def test_section_of_a_plugin_that_is_named_like_a_data_set_has_no_safe_keys():
    before = '[dataset_cache]\nname = "a"\ndataloader.timeout = 1\n'
    now = before.replace('"a"', '"b"').replace("= 1", "= 2")
    affecting = [change.key for change in drift(before, now, lambda section, path: None) if change.affects_training]
    assert affecting == ["dataset_cache.name", "dataset_cache.dataloader.timeout"]
    # The negative control: in a data set, both keys are safe.
    data = [text.replace("[dataset_cache]", '[dataset]\npath = "mix"') for text in (before, now)]
    assert [change.affects_training for change in drift(*data)] == [False, False]


TRAINER = '[trainer]\npath = "enhancement"\n[trainer.args]\n'


def test_name_that_starts_with_a_safe_name_is_not_safe():
    assert drift(TRAINER, TRAINER + "max_epochs_of_mine = 1")[0].affects_training
    assert not drift(TRAINER, TRAINER + "max_epochs = 1")[0].affects_training


@pytest.mark.parametrize("argument", ["metrics", "save_enhanced", "save_ckpt_minutes", "on_bad_data"])
def test_trainer_inherits_and_declares_safe_arguments(argument):
    (change,) = drift(TRAINER, f"{TRAINER}{argument} = 1")
    assert not change.affects_training
    (change,) = drift(TRAINER, f"{TRAINER}{argument} = 1", find=lambda section, path: None)
    assert change.affects_training


def test_any_component_can_declare_safe_arguments():
    class Cached:
        resume_safe = ("cache_dir",)

    before = '[[train_dataset]]\npath = "a.Cached"\n[train_dataset.args]\ncache_dir = "a"\nroot = "a"\n'
    found = []
    changes = drift(before, before.replace('"a"', '"b"'), lambda *names: found.append(names) or Cached)
    assert {change.key.rpartition(".")[2]: change.affects_training for change in changes} == {
        "cache_dir": False,
        "root": True,
    }
    assert set(found) == {("train_dataset", "a.Cached")}


def test_components_are_imported_only_if_a_setting_has_changed():
    def find(section, path):
        raise AssertionError(path)

    assert drift(BEFORE, BEFORE, find) == []
    with pytest.raises(AssertionError, match="enhancement"):
        drift(BEFORE, BEFORE.replace("seed = 1", "seed = 2"), find)


def test_third_party_hook_can_declare_that_it_does_not_affect_training():
    class Watches:
        affects_training = False

    class Changes:
        pass

    (change,) = drift("", '[[hooks]]\npath = "mine.Hook"', lambda section, path: Watches)
    assert not change.affects_training
    (change,) = drift("", '[[hooks]]\npath = "mine.Hook"', lambda section, path: Changes)
    assert change.affects_training


def hooks(*paths, **args):
    return "".join(
        f'[[hooks]]\npath = "{path}"\n[hooks.args]\ndecay = {args.get(f"_{place}", 0)}\n'
        for place, path in enumerate(paths)
    )


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_hooks_with_the_same_path_are_compared_one_by_one(changed):
    before, now = hooks("ema", "ema", "ema"), hooks("ema", "ema", "ema", **{f"_{changed}": 9})
    name = "ema" if changed == 0 else f"ema#{changed + 1}"
    assert [str(change) for change in drift(before, now)] == [f"hooks.{name}.args.decay: 0 -> 9"]
    assert drift(before, now)[0].affects_training


@pytest.mark.parametrize(
    ("path", "affects"),
    [
        ("progress", False),
        ("audiozen:progress", False),
        ("progress.Ema", True),
        ("progress.args.Ema", True),
        ("acme:progress", True),
        ("my.progress", True),
    ],
)
def test_third_party_hook_named_like_a_safe_hook_is_not_safe(path, affects):
    assert {change.affects_training for change in drift(hooks(path, path), hooks(path, path, _0=1, _1=2))} == {affects}
    assert {change.affects_training for change in drift("", hooks(path))} == {affects}


def test_the_remedy_names_the_checkpoint_of_the_run():
    changes = drift(BEFORE, BEFORE.replace("seed = 1", "seed = 2"))
    with pytest.raises(CheckpointError) as error:
        refuse_changes(changes, Path("exp/a"))
    assert "under another name" in error.value.remedy
    assert "-M finetune --ckpt-path exp/a/checkpoints/best" in error.value.remedy
    assert 'in Python `modes=["finetune"]` and `ckpt_path="exp/a/checkpoints/best"`' in error.value.remedy
