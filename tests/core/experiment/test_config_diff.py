"""What has changed in a TOML since a checkpoint was made, and whether it matters."""

from pathlib import Path

import pytest

from audiozen_core.errors import CheckpointError
from audiozen_core.experiment.config_diff import drift, refuse_drift

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

MATTERS = [
    ("seed = 1", "seed = 2", "meta.seed: 1 -> 2"),
    ("[model.args]", "[model.args]\nmore = 1", "model.args.more: (not set) -> 1"),
    ("hidden = [1, 2]", "hidden = [1, 3]", "model.args.hidden: [1, 2] -> [1, 3]"),
    ("args.lr = 0.1", "args.lr = 0.2", "optimizer.args.lr: 0.1 -> 0.2"),
    ('root = "a"', 'root = "b"', "dataset.args.root: 'a' -> 'b'"),
    ("batch_size = 4", "batch_size = 8", "dataset.dataloader.batch_size: 4 -> 8"),
    ("max_epochs = 3", "clip_grad_norm_value = 1.0\nmax_epochs = 3", "clip_grad_norm_value"),
    ("decay = 0.9", "decay = 0.99", "hooks.ema.args.decay: 0.9 -> 0.99"),
    ("[meta]", "[meta]\nuse_amp = true", "meta.use_amp"),
    ('[[validate_dataset]]\npath = "mix"', '[[validate_dataset]]\npath = "other"', "validate_dataset.0.path"),
]
FREE = [
    ('save_dir = "exp"', 'save_dir = "other"'),
    ("max_epochs = 3", "max_epochs = 9\nsave_ckpt_interval_steps = 5\npatience = 3\non_nonfinite = 'skip'"),
    ("num_workers = 0", "num_workers = 2\npin_memory = true"),
    ("[meta]", "[meta]\nnum_threads = 2"),
    ('[[hooks]]\npath = "progress"', ""),
    ("[dataset]", "[test_dataset]\npath = 'mix'\n[dataset]"),
]


@pytest.mark.parametrize(("old", "new", "shown"), MATTERS, ids=lambda value: value[:20])
def test_what_matters_stops_and_is_shown(old, new, shown):
    assert old in BEFORE
    with pytest.raises(CheckpointError) as error:
        refuse_drift(drift(BEFORE, BEFORE.replace(old, new)))
    assert any(shown in note for note in error.value.notes)
    assert "--allow-drift" in error.value.remedy


@pytest.mark.parametrize(("old", "new"), FREE, ids=lambda value: value[:20])
def test_what_does_not_matter_is_told_and_goes_on(old, new):
    assert old in BEFORE
    changes = drift(BEFORE, BEFORE.replace(old, new))
    assert changes
    refuse_drift(changes)


def test_nothing_has_changed_where_only_the_order_of_hooks_has():
    first, second = BEFORE.index('[[hooks]]\npath = "ema"'), BEFORE.index('[[hooks]]\npath = "progress"')
    assert drift(BEFORE, BEFORE[:first] + BEFORE[second:] + BEFORE[first:second]) == []


def test_a_name_that_begins_like_a_free_one_is_not_free():
    assert drift("", "[trainer.args]\nmax_epochs_of_mine = 1")[0].matters
    assert not drift("", "[trainer.args]\nmax_epochs = 1")[0].matters


def hooks(*paths, **args):
    return "".join(
        f'[[hooks]]\npath = "{path}"\n[hooks.args]\ndecay = {args.get(f"_{place}", 0)}\n'
        for place, path in enumerate(paths)
    )


@pytest.mark.parametrize("changed", [0, 1, 2])
def test_of_several_hooks_of_one_kind_each_is_compared(changed):
    before, now = hooks("ema", "ema", "ema"), hooks("ema", "ema", "ema", **{f"_{changed}": 9})
    name = "ema" if changed == 0 else f"ema#{changed + 1}"
    assert [str(change) for change in drift(before, now)] == [f"hooks.{name}.args.decay: 0 -> 9"]
    assert drift(before, now)[0].matters


@pytest.mark.parametrize(
    ("path", "matters"),
    [
        ("progress", False),
        ("audiozen:progress", False),
        ("progress.Ema", True),
        ("progress.args.Ema", True),
        ("acme:progress", True),
        ("my.progress", True),
    ],
)
def test_only_our_own_hooks_are_free_and_not_whatever_has_their_name(path, matters):
    assert {change.matters for change in drift(hooks(path, path), hooks(path, path, _0=1, _1=2))} == {matters}
    assert {change.matters for change in drift("", hooks(path))} == {matters}


def test_the_remedy_leads_somewhere():
    changes = drift(BEFORE, BEFORE.replace("seed = 1", "seed = 2"))
    with pytest.raises(CheckpointError) as error:
        refuse_drift(changes, Path("exp/a"))
    assert "under another name" in error.value.remedy
    assert "-M finetune --ckpt-path exp/a/checkpoints/best" in error.value.remedy
