"""Settings of the first AudioZEN still work, with a warning, if they change nothing."""

from __future__ import annotations

import pytest

from audiozen_core.config.check import check_config
from audiozen_core.config.load import load_config
from audiozen_core.errors import ConfigError

# A file as the recipes of the first AudioZEN have it, with a trainer of the recipe.
TOML = """\
[meta]
save_dir = "exp"
description = "Train a model"
seed = 20220815
exp_id = "small"
config_path = "/home/me/recipes/small.toml"
ckpt_path = "best"

[trainer]
path = "trainer.Trainer"
[trainer.args]
debug = false
max_steps = 0
max_epochs = 200
max_grad_norm = 10
save_max_score = true
max_patience = 20
scheduler_name = "constant_schedule_with_warmup"
warmup_steps = 0
warmup_ratio = 0.00

[model]
path = "torch.nn.Identity"
[loss_function]
path = "torch.nn.MSELoss"
[loss_function.args]
[optimizer]
path = "torch.optim.AdamW"
[train_dataset]
path = "trainer.Data"
"""
TRAINER = """\
from torch.utils.data import Dataset
from audiozen.trainer.base_trainer import BaseTrainer
class Data(Dataset): ...
class Trainer(BaseTrainer):
    def __init__(self, components{own}, **arguments):
        super().__init__(components, **arguments)
    def training_step(self, batch, batch_idx): ...
"""


@pytest.fixture
def checked(tmp_path):
    def checked(text=TOML, own="", overrides=()):
        (tmp_path / "trainer.py").write_text(TRAINER.format(own=own))
        (tmp_path / "exp.toml").write_text(text)
        return check_config(load_config(tmp_path / "exp.toml", overrides))

    return checked


def test_file_of_the_first_audiozen_passes_the_check_with_warnings_that_say_what_to_write(checked):
    result = checked()
    warnings = {(found.span.line, found.label) for found in result.warnings}
    assert warnings == {
        (3, "write it as a comment"),
        (5, "write `id`"),
        (6, "leave it out: AudioZEN knows the file"),
        (7, "give the checkpoint on the command line, with `--ckpt-path`"),
        (12, "leave it out: a loss that is not finite is always reported"),
        (13, "leave it out: without it, the number of steps has no limit"),
        (15, "write `clip_grad_norm_value`"),
        (17, "write `patience`"),
        (17, "add a section `[validate_dataset]`, or leave this out"),
        (18, "write a section [lr_scheduler]"),
        (19, "write a section [lr_scheduler]"),
        (20, "write a section [lr_scheduler]"),
    }
    assert {found.code for found in result.warnings if "`[validate_dataset]`" not in found.label} == {"AZ110"}
    assert result.config.id == "small"
    assert result.config.trainer.args == {
        "max_epochs": 200,
        "clip_grad_norm_value": 10,
        "save_max_score": True,
        "patience": 20,
    }
    for dropped in ("description", "config_path", "debug", "warmup", "max_steps"):
        assert dropped not in result.config.text


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("warmup_steps = 0", "warmup_steps = 500"),
        ("warmup_ratio = 0.00", "warmup_ratio = 0.1"),
        ("constant_schedule", "linear_schedule"),
        ("debug = false", "debug = true"),
        ("debug = false", "debug = 0"),
    ],
)
def test_old_setting_that_changes_the_training_is_an_error(checked, old, new):
    with pytest.raises(ConfigError) as caught:
        checked(TOML.replace(old, new))
    (error,) = [found for found in caught.value.diagnostics if found.severity == "error"]
    assert error.code == "AZ140"


def test_argument_that_the_trainer_has_itself_is_passed_on(checked):
    args = checked(own=", *, debug=True, warmup_steps=9").config.trainer.args
    assert (args["debug"], args["warmup_steps"]) == (False, 0)
    assert "warmup_ratio" not in args


def test_old_max_steps_lifts_an_inherited_limit(checked, tmp_path):
    """If only the zero were dropped, the limit of the extended file would stay."""
    (tmp_path / "base.toml").write_text(TOML.replace("max_steps = 0", "max_steps = 100"))
    text = 'extends = "base.toml"\n[trainer.args]\n'
    assert checked(text).config.trainer.args["max_steps"] == 100
    assert "max_steps" not in checked(f"{text}max_steps = 0\n").config.trainer.args
    assert "max_steps" not in checked(text, overrides=["trainer.args.max_steps=0"]).config.trainer.args


@pytest.mark.parametrize("old", ["max_grad_norm = 0", "max_grad_norm = -1.0", "clip_grad_norm_value = -1"])
def test_old_ways_to_switch_clipping_off_are_accepted(checked, tmp_path, old):
    result = checked(TOML.replace("max_grad_norm = 10", old))
    (warning,) = [found for found in result.warnings if found.span.line == 15]
    assert warning.label == "leave it out: without it, gradients are not clipped"
    assert "clip_grad_norm_value" not in result.config.trainer.args
    (tmp_path / "base.toml").write_text(TOML)
    text = f'extends = "base.toml"\n[trainer.args]\n{old}\n'
    assert "clip_grad_norm_value" not in checked(text).config.trainer.args
