import sys
from importlib import metadata

from audiozen_core.experiment import provenance
from audiozen_core.registry.scope import ImportScope


def test_distributions_of_imported_modules_are_found_and_read_once_for_each_folder(tmp_path, monkeypatch):
    read, folders = metadata.distributions, []
    monkeypatch.setattr(metadata, "distributions", lambda path: folders.append(path) or read(path=path))
    provenance._distributions_in.cache_clear()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        with ImportScope([tmp_path / name]):
            versions = provenance.imported_versions()
    assert len(folders) == len(set(map(tuple, folders))) > 1
    monkeypatch.syspath_prepend(str(tmp_path))  # something else may be installed there
    provenance.imported_versions()
    assert folders[-1] == [str(tmp_path)]
    monkeypatch.undo()
    # Python finds the same ones, but reads all of them again each time.
    imported = {name.partition(".")[0] for name in sys.modules}
    names = {
        name for module, names in metadata.packages_distributions().items() if module in imported for name in names
    }
    assert versions == {name: metadata.version(name) for name in names}
    assert "torch" in names
    assert "hatchling" not in names
