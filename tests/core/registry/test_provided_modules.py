import sys
from importlib import metadata

import pytest

from audiozen_core.checkpoint.format.checkpoint import current_versions
from audiozen_core.experiment.provenance import imported_versions
from audiozen_core.registry import provided_modules
from audiozen_core.registry.provided_modules import distributions_with
from audiozen_core.registry.scope import ImportScope


def test_distributions_of_imported_modules_are_found_and_read_once_for_each_folder(tmp_path, monkeypatch):
    read, folders = metadata.distributions, []
    monkeypatch.setattr(metadata, "distributions", lambda path: folders.append(path) or read(path=path))
    provided_modules._distributions_in.cache_clear()
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        with ImportScope([tmp_path / name]):
            versions = imported_versions()
    assert len(folders) == len(set(map(tuple, folders))) > 1
    monkeypatch.syspath_prepend(str(tmp_path))  # something else may be installed there
    imported_versions()
    assert folders[-1] == [str(tmp_path)]
    monkeypatch.undo()
    # Python finds the same ones, but reads all of them again each time.
    imported = {name.partition(".")[0] for name in sys.modules} | {"numba"}
    names = {
        name for module, names in metadata.packages_distributions().items() if module in imported for name in names
    }
    assert versions == {"numba": provided_modules.numba_version()} | {name: metadata.version(name) for name in names}
    assert "torch" in names
    assert "hatchling" not in names


def test_the_version_of_numba_is_known_before_its_import(tmp_path, monkeypatch):
    monkeypatch.setattr("audiozen_core.experiment.provenance.installed_path", lambda: [str(tmp_path)])
    monkeypatch.setattr(provided_modules, "installed_path", lambda: [str(tmp_path)])
    provided_modules._numba_version.cache_clear()
    assert imported_versions() == {"numba": "none"}
    for name in [name for name in sys.modules if name.partition(".")[0] == "numba"]:
        monkeypatch.delitem(sys.modules, name)
    provided_modules._distributions_in.cache_clear()
    provided_modules._numba_version.cache_clear()
    folder = tmp_path / "numba-9.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Name: numba\nVersion: 9\n\n")
    (folder / "top_level.txt").write_text("numba")
    assert imported_versions() == {"numba": "9"}
    assert current_versions()["numba"] == "9"
    for content, version in ((b"Version: \xe4\n", "unknown"), (b"Name: numba\n", "unknown")):
        (folder / "METADATA").write_bytes(content)
        provided_modules._numba_version.cache_clear()
        assert current_versions()["numba"] == version


@pytest.mark.parametrize(
    "headers", [b"Name: acme\nVersion: 1\nAuthor: J\xe4ger\n\n", b"Version: 1\n\n", b"Name: acme\n\n", b""]
)
def test_distribution_whose_metadata_cannot_be_read_is_left_out(tmp_path, monkeypatch, headers):
    distributions_with.cache_clear()
    (tmp_path / "sound_acme.py").write_text("")
    for name, content in (("acme", headers), ("sound", b"Name: sound\nVersion: 2\n\n")):
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_bytes(content)
        (folder / "top_level.txt").write_text("sound_acme")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "sound_acme", object())
    versions = imported_versions()
    assert versions["sound"] == "2"
    assert "acme" not in versions
    assert distributions_with("sound_acme") == ("sound",)  # and a metric says which packages it uses
