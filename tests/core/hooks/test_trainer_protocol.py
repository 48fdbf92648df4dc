"""The contract between the trainer and the hooks, enforced by the type checker."""

import subprocess
import sys
from pathlib import Path

import pytest

from audiozen_core.hooks import trainer_protocol
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_plugins.hooks.patience import Patience
from tests.tiny_training import make_trainer

ROOT = Path(__file__).resolve().parents[3]
HOOK = """
from audiozen_core.hooks.specs import hookimpl
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_core.trainer.base_trainer import BaseTrainer


class Hook:
    @hookimpl
    def on_epoch_end(self, trainer: Trainer) -> None:
        {line}


def run(trainer: BaseTrainer) -> None:
    Hook().on_epoch_end(trainer)
"""
ERRORS = {
    "trainer.hooks.on_logg(trainer=trainer)": '"Hooks[Trainer]" has no attribute "on_logg"',
    "trainer.hooks.on_best_found(trainer=None, score=1.0)": 'has incompatible type "None"; expected "Trainer"',
    "trainer.hooks.on_best_found(trainer=trainer, scores=1.0)": 'Unexpected keyword argument "scores"',
    "trainer.hooks.on_best_found(trainer=trainer, score='high')": 'incompatible type "str"; expected "float"',
    "trainer.progres": '"Trainer" has no attribute "progres"',
    "trainer.progress.epoch.upper()": '"int" has no attribute "upper"',
    "trainer._optimizer_step()": '"Trainer" has no attribute "_optimizer_step"',
}


def mypy(tmp_path, lines):
    """Writes one hook file for each line, checks all files with mypy, and returns its output."""
    files = []
    for place, line in enumerate(lines):
        files.append(tmp_path / f"hook_{place}.py")
        files[-1].write_text(HOOK.format(line=line))
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout


def test_type_checker_accepts_the_trainer_protocol_and_reports_its_misuse(tmp_path):
    pytest.importorskip("mypy")
    good = "trainer.hooks.on_log(trainer=trainer, metrics={}, step=trainer.progress.step, epoch=1)"
    found = mypy(tmp_path, [good, *ERRORS])
    assert "hook_0.py" not in found
    for place, message in enumerate(ERRORS.values(), start=1):
        assert any(f"hook_{place}.py" in line and message in line for line in found.splitlines()), (message, found)


def test_every_member_of_the_protocol_exists_on_a_trainer():
    trainer = make_trainer()
    members = [*Trainer.__annotations__, *(name for name in vars(Trainer) if not name.startswith("_"))]
    assert len(members) > 30
    assert [name for name in members if not hasattr(trainer, name)] == []


def test_hook_works_with_a_stub_that_has_only_the_used_attributes():
    class Stub:
        patience = 1
        progress = trainer_protocol.Progress(epoch=3, best_epoch=1, best_score=0.5)

    assert "no better score for 2 epochs" in Patience().stop_reason(Stub())
