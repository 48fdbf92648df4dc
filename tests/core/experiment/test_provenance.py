from importlib import metadata

from audiozen_core.experiment import provenance
from audiozen_core.registry.scope import ImportScope


def test_versions_of_imported_distributions_are_read_once_for_all_experiments(tmp_path, monkeypatch):
    calls = []
    read = metadata.packages_distributions
    monkeypatch.setattr(metadata, "packages_distributions", lambda: calls.append(1) or read())
    provenance._providers.cache_clear()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        with ImportScope([tmp_path / name]):
            versions = provenance.imported_versions()
    assert len(calls) == 1
    assert versions["torch"] == metadata.version("torch")
    assert "hatchling" not in versions
    monkeypatch.syspath_prepend(str(tmp_path))  # something else may be installed there
    provenance.imported_versions()
    assert len(calls) == 2
