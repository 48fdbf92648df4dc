"""The fixtures of the test kit. pytest imports this module in every project, so it must be quick to import."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from audiozen_core.testing.recorder import HookRecorder
    from audiozen_core.testing.tiny import TinyExperiment


@pytest.fixture
def tiny_experiment(tmp_path: Path) -> TinyExperiment:
    """A small speech enhancement experiment on generated audio, in its own folder; `tiny_experiment.run()` runs it."""
    from audiozen_core.testing.tiny import TinyExperiment

    folder = tmp_path / "tiny_experiment"
    folder.mkdir()
    return TinyExperiment(folder)


@pytest.fixture
def hook_recorder() -> HookRecorder:
    """A hook plugin that records the calls of all hooks."""
    from audiozen_core.testing.recorder import HookRecorder

    return HookRecorder()
