"""A hash of code depends on the code that a result depends on, and on nothing else."""

import importlib
import sys
from pathlib import Path

import pytest

import audiozen_plugins
from audiozen_core.registry import code_hash as module
from audiozen_core.registry.code_hash import code_hash
from audiozen_core.registry.scope import ImportScope
from tests.core.test_architecture import imported

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
PART = "acme/deep/part.py"
# How a module uses another module, and the code of the other module.
USES = {
    "a constant": ("from acme.deep.part import LEVEL", "LEVEL = 1.0\n"),
    "a cached function": (
        "from acme.deep.part import window",
        "import functools\n@functools.cache\ndef window(size): ...\n",
    ),
    "an operator": ("from acme.deep.part import scale", "import torch\nscale = torch.ops.aten.mul\n"),
    "a module": ("import acme.deep.part", ""),
    "a module of a package": ("from acme.deep import part", ""),
    "a relative import": ("from ..deep import part", ""),
    "a relative import of a name": ("from ..deep.part import LEVEL", "LEVEL = 1.0\n"),
    "an import in a method": ("class Net:\n    def forward(self):\n        from acme.deep.part import LEVEL", ""),
    "an import in a function of a function": ("def f():\n    def g():\n        from ..deep import part", ""),
    "an import with an alias in a function": ("def f():\n    import acme.deep.part as part", ""),
    "an import after a failure": ("try:\n    import acme_fast\nexcept ImportError:\n    from ..deep import part", ""),
    "an import on a condition": (
        "if sys.maxsize < 0: pass\nelse:\n    with open(__file__): from ..deep import part",
        "",
    ),
}
KERNELS = Path(audiozen_plugins.__file__).parent / "kernels"


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


@pytest.mark.parametrize("use", USES)
def test_each_use_of_a_module_counts(acme, use):
    importing, text = USES[use]
    (acme / "acme/nets/net.py").write_text(f"import sys\n{importing}\nclass Net: ...\n")
    (acme / PART).write_text(text)
    before = hash_of_net()
    (acme / "acme/other/net.py").write_text("# changed\n")
    assert hash_of_net() == before
    (acme / PART).write_text(f"{text}# changed\n")
    assert hash_of_net() != before


def test_what_has_been_imported_so_far_does_not_count(acme):
    (acme / "acme/nets/net.py").write_text("import acme\nclass Net:\n    def f(self): from acme.deep import part\n")
    (acme / PART).write_text("from acme.ops import gates\n")
    before = hash_of_net()
    assert "acme.deep.part" not in sys.modules
    for name in ("acme.deep.part", "acme.other.net"):
        importlib.import_module(name)
    assert hash_of_net() == before
    (acme / "acme/ops/gates.py").write_text("# changed\n")
    assert hash_of_net() != before


def test_optional_packages_count_only_if_they_are_installed(acme, monkeypatch):
    lazy = "    def f(self):\n        import acme_missing, soundfile\n        from acme.deep import part\n"
    (acme / "acme/nets/net.py").write_text(f"class Net:\n{lazy}")
    (acme / PART).write_text("not Python\n")
    monkeypatch.setattr(module, "distributions_with", lambda name: pytest.fail(f"looks for the package of {name}"))
    monkeypatch.setattr(module, "version_of", lambda name: "1")
    before = hash_of_net()
    monkeypatch.setattr(module, "version_of", lambda name: "2" if name == "acme_missing" else "1")
    assert hash_of_net() == before
    monkeypatch.setattr(module, "version_of", lambda name: "2" if name == "soundfile" else "1")
    assert hash_of_net() != before


def changing(path, monkeypatch):
    """Makes a file look changed."""
    read = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda self: read(self) + (b"# changed\n" if self == path else b""))


def kernels_of(file):
    """Returns the files of the kernels that a module of the components imports, also indirectly."""
    root, found, waiting = KERNELS.parent.parent, set(), [file]
    while waiting:
        path = waiting.pop()
        names = imported(path, ".".join(path.relative_to(root).with_suffix("").parts))
        names = [name for name in names if name.startswith("audiozen_plugins.")]
        for parts in [parts for name in names for parts in (name.split("."), name.split(".")[:-1])]:
            other = root.joinpath(*parts).with_suffix(".py")
            if other.is_file() and other not in found:
                found.add(other)
                waiting.append(other)
    return {path for path in found if path.parent == KERNELS}


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("sdnn.SDNN", "sigma_delta_triton"),
        ("gtcrn.GTCRN", "gru_on_cpu"),
        ("spiking_fullsubnet.SpikingFullSubNet", "gated_spiking_triton"),
        ("ul_unas.ULUNAS", "energies"),
    ],
)
def test_all_kernels_of_a_network_count(name, kernel, monkeypatch):
    file, _, cls = name.partition(".")
    net = importlib.import_module(f"audiozen_plugins.model.{file}")
    kernels = kernels_of(Path(net.__file__))
    assert KERNELS / f"{kernel}.py" in kernels
    before = code_hash([getattr(net, cls)], rooms=ROOMS)
    for path in kernels:
        with monkeypatch.context() as patch:
            changing(path, patch)
            assert code_hash([getattr(net, cls)], rooms=ROOMS) != before, path
    # A network without kernels does not depend on them.
    other = importlib.import_module("audiozen_plugins.model.conv_tasnet")
    assert not kernels_of(Path(other.__file__))
    before = code_hash([other.ConvTasNet], rooms=ROOMS)
    changing(KERNELS / f"{kernel}.py", monkeypatch)
    assert code_hash([other.ConvTasNet], rooms=ROOMS) == before


@pytest.mark.parametrize("importing", ["from audiozen.model import SDNN", "def f(): from audiozen.model import SDNN"])
def test_a_component_that_is_imported_by_its_public_name_counts(acme, importing, monkeypatch):
    (acme / "acme/nets/net.py").write_text(f"{importing}\nclass Net: ...\n")
    before = hash_of_net()
    for file, counts in (("model/sdnn.py", True), ("kernels/sigma_delta.py", True), ("loss/si_snr.py", False)):
        with monkeypatch.context() as patch:
            changing(KERNELS.parent / file, patch)
            assert (hash_of_net() != before) is counts


def test_own_modules_that_functions_import_count(tmp_path):
    importing = (
        "def f():\n    try:\n        from . import own_parts\n    except ImportError:\n        import own_parts\n"
    )
    (tmp_path / "own_net.py").write_text(f"{importing}class Own: ...\n")
    (tmp_path / "own_parts.py").write_text("")
    with ImportScope([tmp_path]):
        own = importlib.import_module("own_net").Own
        before = code_hash([own], rooms=ROOMS, own_folders=False)
        (tmp_path / "own_parts.py").write_text("# changed\n")
        assert code_hash([own], rooms=ROOMS, own_folders=False) != before


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
