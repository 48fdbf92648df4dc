"""One run that many tests replay."""

import pytest

from audiozen_core.replay import output
from tests.core.replay.waves import WaveExperiment


@pytest.fixture(scope="package")
def tiny(tmp_path_factory):
    """An experiment whose run `waves` has three epochs of four batches."""
    experiment = WaveExperiment(tmp_path_factory.mktemp("run"))
    experiment.train()
    return experiment


@pytest.fixture
def run(tiny):
    """The folder of its run. Copy it before you change it."""
    return tiny.folder / "exp" / "waves"


@pytest.fixture
def _no_pictures(monkeypatch):
    """Leaves the pictures out, which take most of the time."""
    monkeypatch.setattr(output, "png", lambda picture, fast: b"")
    monkeypatch.setattr(output, "draw_sheet", lambda signals, sr: None)
