"""The contract between the trainer and the hooks, enforced by the type checker."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audiozen_core.hooks import trainer_protocol
from audiozen_core.hooks.trainer_protocol import Trainer
from audiozen_plugins.hooks.patience import Patience
from tests.tiny_training import make_trainer

ROOT = Path(__file__).resolve().parents[3]
# What a plugin is written like: it imports nothing but `audiozen`.
HEAD = """
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch

from audiozen import hookimpl, hookspec
from audiozen.hooks import Phase, Trainer
"""
USE = """
class Hook:
    @hookimpl
    def on_epoch_end(self, trainer: Trainer) -> None:
        {line}
"""
METHOD = """
class Hook:
    @hookimpl.{line}
"""
OWN_HOOKS = """
class AcmeHooks:
    @hookspec
    def acme_mixed(self, trainer: Trainer, snr: float) -> None: ...

    @hookspec(firstresult=True)
    def acme_gain(self, trainer: Trainer) -> float | None: ...


def call(trainer: Trainer) -> None:
    own = trainer.hooks.plugin_hooks(AcmeHooks)
    {line}
"""
GOOD = f"""
{OWN_HOOKS.format(line="own.acme_mixed(trainer=trainer, snr=own.acme_gain(trainer=trainer) or 0.0)")}
from audiozen.trainer.base_trainer import BaseTrainer


class Hook:
    phase: Phase = "gradient"
    before = ("clip_grad_norm",)
    affects_training = False

    @hookimpl
    def on_epoch_end(self, epoch: int, trainer: Trainer) -> None:
        trainer.hooks.on_log(trainer=trainer, mode="train", metrics={{}}, step=trainer.progress.step, epoch=epoch)

    @hookimpl.on_epoch_start
    def on_epoch_start(self, epoch: int, trainer: Trainer) -> None: ...

    @hookimpl.on_log
    def records(self, metrics: Mapping[str, object], step: float) -> None: ...

    @hookimpl.on_setup
    def on_setup(self) -> None: ...

    @hookimpl.on_gradients_ready
    @torch.no_grad()
    def on_gradients_ready(self, trainer: Trainer) -> None: ...

    @hookimpl.skip_batch
    def skip_batch(self, batch_idx: int) -> bool:
        return batch_idx == 3

    @hookimpl.autocast
    def autocast(self) -> AbstractContextManager[None]:
        return torch.no_grad()

    @hookimpl.backward(wrapper=True)
    def backward(self, loss: torch.Tensor) -> Generator[None, bool | None, bool | None]:
        return (yield)

    @hookimpl.on_run_end(wrapper=True)
    def on_run_end(self) -> Generator[None, Any, Any]:
        return (yield)

    @staticmethod
    @hookimpl.on_checkpoint_save
    def on_checkpoint_save(extra: dict[str, Any]) -> None: ...

    @hookimpl.on_component_built
    def on_component_built(self, section: str, component: Any) -> object:
        return component


def run(trainer: BaseTrainer) -> None:
    Hook().on_epoch_end(1, trainer)
    Hook().on_epoch_start(epoch=1, trainer=trainer)
"""
WRONG_USES = {
    "trainer.hooks.on_logg(trainer=trainer)": '"Hooks[Trainer]" has no attribute "on_logg"',
    "trainer.hooks.on_best_found(trainer=None, score=1.0)": 'has incompatible type "None"; expected "Trainer"',
    "trainer.hooks.on_best_found(trainer=trainer, scores=1.0)": 'Unexpected keyword argument "scores"',
    "trainer.hooks.on_best_found(trainer=trainer, score='high')": 'incompatible type "str"; expected "float"',
    "trainer.progres": '"Trainer" has no attribute "progres"',
    "trainer.progress.epoch.upper()": '"int" has no attribute "upper"',
    "trainer._optimizer_step()": '"Trainer" has no attribute "_optimizer_step"',
}
WRONG_METHODS = {
    "on_epoch_ends\n    def on_epoch_ends(self) -> None: ...": '"HookMarker" has no attribute "on_epoch_ends"',
    "on_epoch_end\n    def on_epoch_end(self, epoch: str) -> None: ...": '"on_epoch_end" of "HookMarker"',
    "on_epoch_end\n    def on_epoch_end(self, epok: int) -> None: ...": '"on_epoch_end" of "HookMarker"',
    "on_epoch_end\n    def on_epoch_end(self, trainer: str, epoch: int) -> None: ...": '"on_epoch_end" of "HookMarker"',
    "on_epoch_end\n    def on_epoch_end(self) -> bool:\n        return True": '"on_epoch_end" of "HookMarker"',
    "on_epoch_end\n    async def on_epoch_end(self) -> None: ...": '"on_epoch_end" of "HookMarker"',
    "on_epoch_end\n    def on_epoch_end(self) -> Generator[None, Any, Any]:\n        yield": '"on_epoch_end" of',
    "stop_reason\n    def stop_reason(self) -> bool:\n        return False": '"stop_reason" of "HookMarker"',
    "on_nonfinite\n    def on_nonfinite(self) -> str:\n        return 'Skip'": '"on_nonfinite" of "HookMarker"',
    "autocast\n    def autocast(self) -> int:\n        return 5": '"autocast" of "HookMarker"',
    "backward(wrapper=True)\n    def backward(self) -> None: ...": 'Value of type variable "_backward_wrapper"',
    "backward(wrapper=True)\n    def backward(self) -> Generator[None, Any, str]:\n        return (yield)": "_backward",
    "on_component_built(wrapper=True)\n    def x(self) -> None: ...": 'Unexpected keyword argument "wrapper"',
    "on_epoch_end(tryfirst=True)\n    def on_epoch_end(self) -> None: ...": '"on_epoch_end" of "HookMarker"',
}
WRONG_CALLS = {
    "own.acme_mixed(trainer=trainer, snr='3')": 'incompatible type "str"; expected "float"',
    "own.acme_mixd(trainer=trainer, snr=3.0)": '"AcmeHooks" has no attribute "acme_mixd"',
    "gain: int = own.acme_gain(trainer=trainer)": "Incompatible types in assignment",
}
SAMPLES = [(USE, line, text) for line, text in WRONG_USES.items()]
SAMPLES += [(OWN_HOOKS, line, text) for line, text in WRONG_CALLS.items()]
SAMPLES += [(METHOD, line, text) for line, text in WRONG_METHODS.items()]
SAMPLES += [("\nclass Hook:\n    {line}\n", "phase: Phase = 'late'", "Incompatible types")]


def write_samples(folder):
    """Writes a plugin without mistakes, and one for each mistake. Returns the files."""
    texts = [GOOD, *(template.format(line=line) for template, line, _ in SAMPLES)]
    files = [folder / f"hook_{place}.py" for place in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        file.write_text(HEAD + text)
    return files


def test_mypy_accepts_a_right_plugin_and_rejects_each_mistake(tmp_path):
    pytest.importorskip("mypy")
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", *map(str, write_samples(tmp_path))]
    found = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT).stdout
    assert "hook_0.py" not in found, found
    for place, (_, line, message) in enumerate(SAMPLES, start=1):
        shown = [each for each in found.splitlines() if f"hook_{place}.py" in each]
        assert any("error:" in each and message in each for each in shown), (line, message, shown)


@pytest.mark.slow
def test_pyright_accepts_a_right_plugin_and_rejects_each_mistake(tmp_path):
    pyright = shutil.which("pyright")
    if pyright is None:
        pytest.skip("pyright is not installed (`npm install pyright`)")
    files = write_samples(tmp_path)
    settings = {
        "typeCheckingMode": "strict",
        "extraPaths": [str(ROOT)],
        "reportUnusedImport": False,  # all samples have the same imports
        "reportUnusedClass": False,
        "reportUnusedFunction": False,
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [pyright, "--outputjson", "--pythonpath", sys.executable, "-p", str(tmp_path)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    wrong = {Path(each["file"]).name for each in found["generalDiagnostics"]}
    assert wrong == {file.name for file in files[1:]}


def test_every_member_of_the_protocol_exists_on_a_trainer():
    trainer = make_trainer()
    members = [*Trainer.__annotations__, *(name for name in vars(Trainer) if not name.startswith("_"))]
    assert len(members) > 30
    assert [name for name in members if not hasattr(trainer, name)] == []


def test_hook_works_with_a_stub_that_has_only_the_used_attributes():
    class Stub:
        patience = 1
        progress = trainer_protocol.Progress(validations=3, best_validation=1, best_score=0.5)

    assert "no better score in 2 validations" in Patience().stop_reason(Stub())
