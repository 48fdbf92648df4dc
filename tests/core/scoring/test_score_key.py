"""A cached score counts only while the code that computed it is unchanged."""

from pathlib import Path

import pytest

from audiozen_core.registry import code_hash
from audiozen_core.scoring.rated_metrics import _code
from audiozen_plugins.metric.si_sdr import SiSdr


@pytest.mark.parametrize("module", ["resampling", "seeding", "rating", "si_sdr"])
def test_code_that_a_score_depends_on_is_part_of_its_key(module, monkeypatch):
    before, read = _code(SiSdr), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"\n# changed" * (path.stem == module))
    assert _code(SiSdr) != before


def test_other_code_is_not_part_of_the_key(monkeypatch):
    before, read = _code(SiSdr), Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + b"\n# changed" * (path.stem == "base_trainer"))
    assert _code(SiSdr) == before


def test_version_of_the_package_that_resamples_is_part_of_the_key(monkeypatch):
    before, read = _code(SiSdr), code_hash.version_of
    monkeypatch.setattr(code_hash, "version_of", lambda name: "9.9" if name == "torchaudio" else read(name))
    assert _code(SiSdr) != before
