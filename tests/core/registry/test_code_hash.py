"""A hash of code depends on the code that a result depends on, and on nothing else."""

import importlib
import sys

import pytest

from audiozen_core.registry import code_hash as module
from audiozen_core.registry.code_hash import code_hash
from audiozen_core.registry.scope import ImportScope

FILES = {
    "acme/__init__.py": "",
    "acme/nets/__init__.py": "",
    "acme/nets/net.py": "from acme.nets import parts\nfrom acme.ops.gates import gate\nclass Net: ...\n",
    "acme/nets/parts.py": "",
    "acme/ops/__init__.py": "",
    "acme/ops/gates.py": "from acme.deep import sums\ndef gate(): ...\n",
    "acme/deep/__init__.py": "",
    "acme/deep/sums.py": "import soundfile\n",
    "acme/other/__init__.py": "",
    "acme/other/net.py": "",
}
ROOMS = ("audio",)


@pytest.fixture
def acme(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        del sys.modules[name]


def hash_of_net():
    return code_hash([importlib.import_module("acme.nets.net").Net], rooms=ROOMS)


@pytest.mark.parametrize("file", ["nets/net.py", "nets/parts.py", "ops/gates.py", "deep/sums.py"])
def test_code_of_a_class_and_what_it_imports_from_its_package_counts(acme, file):
    before = hash_of_net()
    assert hash_of_net() == before
    (acme / "acme" / file).write_text(FILES[f"acme/{file}"] + "# changed\n")
    assert hash_of_net() != before


def test_other_code_of_the_package_does_not_count(acme):
    before = hash_of_net()
    (acme / "acme" / "other" / "net.py").write_text("# changed\n")
    assert hash_of_net() == before


def test_code_of_a_base_class_counts(acme):
    base = importlib.import_module("acme.nets.net").Net
    before = code_hash([type("Derived", (base,), {})], rooms=ROOMS)
    (acme / "acme" / "nets" / "net.py").write_text("# changed\n")
    assert code_hash([type("Derived", (base,), {})], rooms=ROOMS) != before


@pytest.mark.parametrize(("package", "counts"), [("acme", True), ("soundfile", True), ("torch", False)])
def test_versions_of_the_packages_that_are_imported_count(acme, monkeypatch, package, counts):
    (acme / "acme" / "deep" / "sums.py").write_text("import soundfile, torch\n")
    before, read = hash_of_net(), module.version_of
    monkeypatch.setattr(module, "version_of", lambda name: "9.9" if name == package else read(name))
    assert (hash_of_net() != before) is counts


def test_packages_and_rooms_that_are_named_count(acme, monkeypatch):
    before, read = hash_of_net(), module.version_of
    net = importlib.import_module("acme.nets.net").Net
    assert code_hash([net], rooms=(*ROOMS, "data")) != before
    named = code_hash([net], rooms=ROOMS, packages=("torchaudio",))
    monkeypatch.setattr(module, "version_of", lambda name: "9.9" if name == "torchaudio" else read(name))
    assert code_hash([net], rooms=ROOMS, packages=("torchaudio",)) != named
    assert hash_of_net() == before


def test_place_of_a_package_does_not_count(acme, tmp_path_factory, monkeypatch):
    before = hash_of_net()
    moved = tmp_path_factory.mktemp("z") / "acme"
    (acme / "acme").rename(moved)
    for name in [name for name in sys.modules if name.partition(".")[0] == "acme"]:
        del sys.modules[name]
    monkeypatch.syspath_prepend(moved.parent)
    assert hash_of_net() == before


def test_own_modules_of_an_experiment_can_be_left_out_but_not_what_they_import(acme, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "own_net.py").write_text("from acme.ops.gates import gate\nimport own_parts\nclass Own: ...\n")
    (folder / "own_parts.py").write_text("from acme.nets.net import Net\n")
    with ImportScope([folder]):
        own = importlib.import_module("own_net").Own
        complete, without = (code_hash([own], rooms=ROOMS, own_modules=value) for value in (True, False))
        (folder / "own_parts.py").write_text("# changed\n")
        assert code_hash([own], rooms=ROOMS, own_modules=True) != complete
        assert code_hash([own], rooms=ROOMS, own_modules=False) == without
        before, read = without, module.version_of
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "version_of", lambda name: "9.9" if name == "acme" else read(name))
            assert code_hash([own], rooms=ROOMS, own_modules=False) != before
