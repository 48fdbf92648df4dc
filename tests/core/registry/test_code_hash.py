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


def test_of_the_folder_of_an_experiment_only_the_modules_that_are_used_can_count(acme, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    (folder / "own_net.py").write_text("from acme.ops.gates import gate\nimport own_parts\nclass Own: ...\n")
    (folder / "own_parts.py").write_text("from acme.nets.net import Net\n")
    (folder / "prepare.py").write_text("")
    with ImportScope([folder]):
        own = importlib.import_module("own_net").Own

        def both():
            return [code_hash([own], rooms=ROOMS, own_folders=value) for value in (True, False)]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "distributions_with", lambda name: pytest.fail(f"looks for the package of {name}"))
            patch.setattr(module, "version_of", lambda name: "1" if name == "acme" else pytest.fail(name))
            both()
        first = both()
        (folder / "prepare.py").write_text("# changed\n")
        second = both()
        assert (second[0] != first[0], second[1] != first[1]) == (True, False)
        (folder / "own_parts.py").write_text("# changed\n")
        third = both()
        assert all(now != before for now, before in zip(third, second, strict=True))
        read = module.version_of
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "version_of", lambda name: "9.9" if name == "acme" else read(name))
            assert all(now != before for now, before in zip(both(), third, strict=True))


def test_modules_of_the_same_name_in_several_folders_all_count(tmp_path, monkeypatch):
    functions = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"acme_{name}.py").write_text("def f(): ...\n")
        (tmp_path / name / "helper.py").write_text("")
        monkeypatch.syspath_prepend(tmp_path / name)
        functions.append(importlib.import_module(f"acme_{name}").f)
    hashes = {code_hash(functions, rooms=ROOMS)}
    for name in ("first", "second"):
        (tmp_path / name / "helper.py").write_text("# changed\n")
        hashes.add(code_hash(functions, rooms=ROOMS))
    assert len(hashes) == 3
    for name in ("first", "second"):
        del sys.modules[f"acme_{name}"]
