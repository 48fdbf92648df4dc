"""The packages never read or write pickle, because loading a pickle can run code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGES = ("audiozen", "audiozen_core", "audiozen_plugins")
FORBIDDEN_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "copyreg"}
FORBIDDEN_CALLS = {
    "torch.load", "torch.save", "torch.serialization.load", "torch.serialization.save", "torch.package",
    "numpy.save", "numpy.savez", "np.save", "np.savez", "pandas.read_pickle",
}  # fmt: skip
FORBIDDEN_ARGUMENT = "allow_pickle"
CONVERTER = "audiozen_core/checkpoint/read_torch_file.py"
"""It reads files of torch for `audiozen convert`, in a process of its own."""


def findings(source: str) -> list[str]:
    """Returns each use of pickle in the source, with the line."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        elif isinstance(node, ast.keyword):
            names = [node.arg or ""]
        for name in names:
            if name.split(".")[0] in FORBIDDEN_MODULES or name in FORBIDDEN_CALLS or name == FORBIDDEN_ARGUMENT:
                found.append(f"line {node.lineno}: {name}")
    return found


def test_packages_do_not_use_pickle(repository):
    sources = [path for package in PACKAGES for path in (repository / package).rglob("*.py")]
    assert len(sources) > 20
    found = [f"{path.relative_to(repository)}, {line}" for path in sources for line in findings(path.read_text())]
    converter = [line for line in found if re.fullmatch(rf"{CONVERTER}, line \d+: torch\.load", line)]
    assert len(converter) == 1
    assert [line for line in found if line not in converter] == []


def test_only_use_reads_weights_in_a_process_that_nothing_else_imports(repository):
    source = (repository / CONVERTER).read_text()
    (call,) = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and "torch.load" in ast.unparse(node.func)
    ]
    assert "weights_only=True" in ast.unparse(call)
    sources = [path for package in PACKAGES for path in (repository / package).rglob("*.py")]
    naming = {path.name for path in sources if re.search(r"\bread_torch_file\b", path.read_text())}
    assert naming == {"torch_file.py"}
    assert not re.search(r"import.*read_torch_file", (repository / CONVERTER).with_name("torch_file.py").read_text())


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as p",
        "from pickle import loads",
        "def f():\n    from torch import save",
        "import torch\ntorch.load('x')",
        "import torch\nload = torch.serialization.load",
        "import numpy as np\nnp.load('x', allow_pickle=True)",
    ],
)
def test_findings_reports_each_use_of_pickle(source):
    assert findings(source)


def test_findings_accepts_loading_without_pickle():
    assert findings("import json\nimport torch\njson.load(open('x'))\nmodel.load_state_dict(torch.zeros(2))") == []


def test_packages_are_in_the_folders_that_are_searched(repository):
    assert all((Path(repository) / package / "__init__.py").is_file() for package in PACKAGES)
