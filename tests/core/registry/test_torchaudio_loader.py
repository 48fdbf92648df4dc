from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
import torch
from structlog.testing import capture_logs

from audiozen_core.binding.arguments import build
from audiozen_core.registry import torchaudio_loader
from audiozen_core.registry.errors import PathError
from audiozen_core.registry.paths import resolve
from audiozen_core.registry.scope import ImportScope

EXTENSION = """
import ctypes, sys
ctypes.CDLL("libno_such_library.so")
"""
HALF = {
    "torchaudio/__init__": "from . import part, _extension\nfrom . import functional, models\nx = 'whole'",
    "torchaudio/part": "",
    "torchaudio/_extension/__init__": EXTENSION,
    "torchaudio/models": "class Net: ...",
    "torchaudio/functional": """
        from torchaudio._extension import _IS_TORCHAUDIO_EXT_AVAILABLE, _IS_ALIGN_AVAILABLE, fail_if_no_align
        from torchaudio._extension import lazy_import_sox_ext

        @fail_if_no_align
        def forced_align(): ...
        """,
}


def run(program, *folders):
    lines = ["import sys", *(f"sys.path.insert(0, {str(folder)!r})" for folder in folders), program]
    return subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)


def load_torchaudio():
    torchaudio_loader.install()
    return importlib.import_module("torchaudio")


@pytest.fixture
def no_torchaudio():
    """Removes the imported torchaudio from `sys.modules`, and restores it after the test."""
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torchaudio"}
    for name in kept:
        del sys.modules[name]
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchaudio"]:
        del sys.modules[name]
    sys.modules.update(kept)


def test_conv_tasnet_from_torchaudio_runs():
    torch.manual_seed(0)
    found = resolve("torchaudio.models.ConvTasNet", section="model")
    args = {"num_sources": 1, "enc_num_feats": 16, "msk_num_feats": 8, "msk_num_hidden_feats": 8, "msk_num_stacks": 1}
    output = build(found.target, args)(torch.randn(2, 1, 800))
    assert output.shape == (2, 1, 800)
    assert output.isfinite().all()


def test_recipe_module_may_import_torchaudio(write):
    recipe = write("a", model="import torchaudio\nfrom torchaudio.transforms import Spectrogram\nclass Model: ...")
    with ImportScope([recipe]):
        assert resolve("model.Spectrogram").target(n_fft=16)(torch.randn(64)).shape == (9, 9)


def test_python_modules_load_with_a_warning_if_the_extension_fails(write, no_torchaudio, monkeypatch):
    monkeypatch.syspath_prepend(str(write("fake", HALF)))
    with capture_logs() as logs:
        torchaudio = load_torchaudio()
        assert load_torchaudio() is torchaudio
    assert torchaudio.x == "whole"
    assert torchaudio.models.Net is resolve("torchaudio.models.Net").target
    assert [(entry["log_level"], "libno_such_library" in entry["reason"]) for entry in logs] == [("warning", True)]


def test_calling_a_function_that_needs_the_extension_is_an_error(write, no_torchaudio, monkeypatch):
    monkeypatch.syspath_prepend(str(write("fake", HALF)))
    functional = load_torchaudio().functional
    assert functional._IS_TORCHAUDIO_EXT_AVAILABLE is False
    with pytest.raises(RuntimeError, match="`forced_align` needs its compiled extension"):
        functional.forced_align()
    with pytest.raises(RuntimeError, match="can't be loaded here"):
        functional.lazy_import_sox_ext()
    with pytest.raises(AttributeError):
        sys.modules["torchaudio._extension"].something_else  # noqa: B018


def test_loader_does_not_change_a_working_torchaudio(write, no_torchaudio, monkeypatch):
    whole = {**HALF, "torchaudio/_extension/__init__": "_IS_X = True", "torchaudio/functional": ""}
    monkeypatch.syspath_prepend(str(write("fake", whole)))
    with capture_logs() as logs:
        load_torchaudio()
    assert logs == []
    assert sys.modules["torchaudio._extension"]._IS_X is True


@pytest.mark.parametrize("raised", ["ImportError", "RuntimeError('other CUDA')"])
def test_other_exceptions_of_the_extension_are_not_hidden(write, no_torchaudio, monkeypatch, raised):
    broken = {**HALF, "torchaudio/_extension/__init__": f"raise {raised}"}
    monkeypatch.syspath_prepend(str(write("fake", broken)))
    with pytest.raises(PathError, match=raised.partition("(")[0]):
        resolve("torchaudio.models.Net")


def test_exceptions_of_the_python_modules_are_not_hidden(write, no_torchaudio, monkeypatch):
    broken = {**HALF, "torchaudio/models": "raise KeyError('models')"}
    monkeypatch.syspath_prepend(str(write("fake", broken)))
    with pytest.raises(KeyError, match="models"):
        load_torchaudio()


def test_availability_flag_set_before_the_failure_is_reset(write, no_torchaudio, monkeypatch):
    half = {**HALF, "torchaudio/_extension/__init__": f"_IS_TORCHAUDIO_EXT_AVAILABLE = True{EXTENSION}"}
    monkeypatch.syspath_prepend(str(write("fake", half)))
    assert load_torchaudio().functional._IS_TORCHAUDIO_EXT_AVAILABLE is False


def test_import_fails_without_the_loader_and_works_with_it(write):
    fake = write("fake", HALF)
    assert "libno_such_library" in run("import torchaudio", fake).stderr, "negative control"
    done = run(
        "from audiozen_core.registry.torchaudio_loader import install\n"
        "install()\nimport torchaudio\nprint(torchaudio.x)",
        fake,
    )
    assert done.returncode == 0, done.stderr
    assert "whole" in done.stdout


def test_installing_the_loader_imports_neither_torch_nor_torchaudio(write):
    recipe = write("a", model="class Model: ...")
    program = (
        "from audiozen_core.registry.paths import resolve\nfrom audiozen_core.registry.scope import ImportScope\n"
        f"with ImportScope([{str(recipe)!r}]): resolve('model.Model')\n"
        "assert not {'torch', 'torchaudio'} & sys.modules.keys()\n"
    )
    done = run(program)
    assert done.returncode == 0, done.stderr


def test_installing_the_loader_twice_adds_it_once():
    torchaudio_loader.install()
    before = list(sys.meta_path)
    torchaudio_loader.install()
    assert sys.meta_path == before
